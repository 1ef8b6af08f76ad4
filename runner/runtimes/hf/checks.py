"""Check what the reference engine (transformers through lm-eval's hf classes) cannot do."""

from __future__ import annotations

from runner.config.schema import RunConfig
from runner.config.usage import suggestion
from runner.inputs.weights import MODELSLIM_FILE, Weights
from runner.interpreters import Interpreter
from runner.platforms import Platform
from runner.problem import UNSUPPORTED, Cure, Problem

# Arguments of lm-eval 0.4.13's hf classes that `engine.extra` may contain; a test compares them
# with the signatures. Left out are arguments that have a configuration key, one that needs torchrun
# (tp_plan), and weight formats and methods that are not compared with vLLM here (gguf, gptq,
# delta).
HF_ARGUMENTS = (
    "add_bos_token",
    "max_cpu_memory",
    "max_memory_per_gpu",
    "mixed_precision_dtype",
    "offload_folder",
    "parallelize",
    "peft",
    "prefix_token_id",
    "softmax_dtype",
    "subfolder",
    "use_fast_tokenizer",
)
HF_MULTIMODAL_ARGUMENTS = (
    "image_height",
    "image_max_side",
    "image_string",
    "image_token_id",
    "image_width",
    "interleave",
    "max_pixels",
    "min_pixels",
)
# Passed on to `from_pretrained`.
FROM_PRETRAINED = ("attn_implementation", "experts_implementation")


def missing(backend: str, platform: Platform, python: Interpreter) -> list[str]:
    """Return what this machine lacks to run the model with transformers; vLLM is not needed."""
    lines = []
    torch = python.version("torch")
    needed = ["torch", "accelerate"]
    if backend == "hf-multimodal":
        needed.append("torchvision")  # of the image processors
    absent = [name for name in needed if python.version(name) is None]
    if absent:
        cure = python.install("transformers", " ".join(absent))
        lines.append(f"not installed: {', '.join(absent)}: {cure}")
    if platform.name == "cuda" and not platform.present():
        lines.append("no NVIDIA GPU: /dev/nvidiactl does not exist; use engine.platform=cpu")
    elif platform.name == "cuda" and torch is not None and "+cpu" in torch:
        lines.append(
            f"torch {torch} has no GPU support; install a CUDA build, or use engine.platform=cpu"
        )
    return lines


def problems(config: RunConfig, backend: str, weights: Weights | None) -> list[Problem]:
    """Return a problem for each setting that has no effect with transformers."""
    return [
        *_platform(config),
        *_layout(config),
        *_quantization(config, weights),
        *_extra(config, backend),
        *_settings(config, backend),
    ]


def extra_arguments(backend: str) -> tuple[str, ...]:
    """Arguments that `engine.extra` may contain for transformers."""
    images = HF_MULTIMODAL_ARGUMENTS if backend == "hf-multimodal" else ()
    return tuple(sorted((*HF_ARGUMENTS, *images, *FROM_PRETRAINED)))


def _platform(config: RunConfig) -> list[Problem]:
    platform = config.engine.platform
    if platform in ("cuda", "cpu"):
        return []
    return [
        Problem(
            f"engine.platform={platform}: transformers runs only on cuda or cpu; use "
            "engine=transformers, which picks the one available"
        )
    ]


def _layout(config: RunConfig) -> list[Problem]:
    layout = config.parallelism
    found = [
        Problem(
            f"parallelism.{key}={size}: transformers runs on one device "
            "(engine.extra.parallelize=true spreads the layers of a large model over all GPUs)",
            (Cure({f"parallelism.{key}": 1}),),
        )
        for key in ("tp", "pp", "dp")
        if (size := getattr(layout, key)) > 1
    ]
    if layout.ep:
        found.append(
            Problem(
                "parallelism.ep=true: transformers runs on one device",
                (Cure({"parallelism.ep": False}),),
            )
        )
    return found


def _quantization(config: RunConfig, weights: Weights | None) -> list[Problem]:
    chosen = config.engine.quantization
    if chosen is not None:
        return [
            Problem(
                f"engine.quantization={chosen}: a vLLM setting; transformers reads the weights' "
                "config.json",
                (Cure({"engine.quantization": None}),),
            )
        ]
    directory = weights.directory if weights is not None else None
    if directory is not None and (directory / MODELSLIM_FILE).is_file():
        return [
            Problem(
                f"model.pretrained={directory}: ModelSlim weights ({MODELSLIM_FILE}), which "
                "transformers cannot read",
                otherwise="use the original weights that they were quantized from",
                switches=(UNSUPPORTED,),
            )
        ]
    return []


def _extra(config: RunConfig, backend: str) -> list[Problem]:
    known = extra_arguments(backend)
    return [
        Problem(
            f"engine.extra.{name}: not an argument of lm-eval's {backend}; vLLM's "
            f"arguments do not apply to it.{suggestion(name, known)} Known: {', '.join(known)}",
            switches=(UNSUPPORTED,),
        )
        for name in config.engine.extra
        if name not in known
    ]


def _settings(config: RunConfig, backend: str) -> list[Problem]:
    found = []
    if config.verdict.rule == "replay" and config.verdict.replay.way == "prefill":
        found.append(
            Problem(
                "verdict.replay.way=prefill: transformers generates each token",
                (Cure({"verdict.replay.way": "decode"}),),
            )
        )
    if config.engine.seed != 0:
        found.append(
            Problem(
                f"engine.seed={config.engine.seed}: a vLLM setting; for transformers, task.seed "
                "seeds sampling",
                (Cure({"engine.seed": 0}),),
            )
        )
    if config.engine.window is not None:
        found.append(
            Problem(
                f"engine.window={config.engine.window}: a vLLM setting; transformers runs batches "
                "of task.batch_size",
                (Cure({"engine.window": None}),),
            )
        )
    if config.model.tokenizer is not None and backend == "hf-multimodal":
        found.append(
            Problem(
                f"model.tokenizer={config.model.tokenizer}: lm-eval's hf-multimodal always uses "
                "the processor that comes with the weights",
                (Cure({"model.tokenizer": None}),),
            )
        )
    return found
