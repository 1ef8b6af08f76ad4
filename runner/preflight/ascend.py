"""Check what an Ascend machine or vllm-ascend cannot do with this configuration.

vllm-ascend itself does not notice some of it (devices, bf16 on 310P), notices the rest only in the
engine, minutes later. tests/contract holds these rules against vllm-ascend's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner.config.schema import RunConfig
from runner.inputs.weights import MODELSLIM_FILE, Weights
from runner.memory.architecture import expert_count, text_config
from runner.platforms import compatibility
from runner.platforms.ascend import Machine
from runner.preflight import devices
from runner.problem import UNSUPPORTED, UNTESTED, Cure, Problem

# NPUPlatform.supported_quantization of vllm-ascend 0.23.0.
QUANTIZATIONS = ("ascend", "compressed-tensors", "fp8", "deepseek_v4_fp8")
# _FLOAT16_NOT_SUPPORTED_MODELS of vllm 0.23.0 (vllm/config/model.py), by model_type.
UNSTABLE_IN_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "plamo2", "glm4")

Rule = Callable[[RunConfig, dict[str, Any], Mapping[str, str]], list[Problem]]
OPTIONS = "engine.additional_config"


def problems(
    config: RunConfig, weights: Weights | None, machine: Machine, variables: Mapping[str, str]
) -> list[Problem]:
    """Return each problem; `variables` is the worker's environment.

    What the machine does not tell (series, memory, health) is given the benefit of the doubt.
    """
    model = weights.config if weights is not None else {}
    found = devices.problems(config, machine, variables) + build_problems(machine)
    found += series_problems(config, model, machine.series, variables)
    for rule in (_precision, _spawn, _graph, _flashcomm, _unsafe_options):
        found += rule(config, model, variables)
    return found + quantization_problems(config, weights)


def warnings(config: RunConfig, machine: Machine, variables: Mapping[str, str]) -> list[str]:
    """Return what vllm-ascend accepts but users should know."""
    found = []
    kernels = config.engine.interpreter.places("batch_invariant_ops")
    if variables.get("VLLM_BATCH_INVARIANT") == "1" and not kernels:
        found.append(
            "VLLM_BATCH_INVARIANT=1: batch_invariant_ops is not installed, so vllm-ascend runs "
            "without its kernels; answers may still depend on the batch"
        )
    return found + devices.warnings(config, machine, variables)


def version_problems(
    packages: Mapping[str, str], cann: str, python: str | None = None
) -> list[Problem]:
    """Return the versions that do not match the installed vllm-ascend.

    `python` is the version of the engine's interpreter; None for this one.
    """
    return [
        Problem(what, otherwise=cure, switches=(UNTESTED,))
        for what, cure in compatibility.problems(packages, cann, python)
    ]


def build_problems(machine: Machine) -> list[Problem]:
    """vllm-ascend's worker asserts this when it starts (check_ascend_device_type)."""
    if None in (machine.series, machine.built_for) or machine.series == machine.built_for:
        return []
    return [
        Problem(
            f"engine=ascend: the installed vllm-ascend was built for {machine.built_for}, this "
            f"machine is {machine.series}",
            otherwise="use the container image for this series (see docs/ascend.md)",
            switches=(UNSUPPORTED,),
        )
    ]


def series_problems(
    config: RunConfig, model: dict[str, Any], series: str | None, variables: Mapping[str, str]
) -> list[Problem]:
    """Return what this series of chips does not support."""
    found = []
    if series == "310P" and _dtype(config, model) == "bfloat16":
        said = "" if config.engine.dtype == "bfloat16" else " (the model's own)"
        found.append(
            Problem(
                f"engine.dtype={config.engine.dtype}{said}: the 310P does not support bfloat16, "
                "and vllm-ascend does not check this",
                (Cure({"engine.dtype": "float16"}),),
                "run it on another series: vLLM does not run this model in float16 either",
                switches=(UNSUPPORTED,),
            )
        )
    if series not in (None, "A2", "A3") and variables.get("VLLM_BATCH_INVARIANT") == "1":
        found.append(
            Problem(
                "VLLM_BATCH_INVARIANT=1: vllm-ascend has these kernels only for A2 and A3; this "
                f"machine is {series}",
                otherwise="unset it and use engine=ascend_deterministic",
                switches=(UNSUPPORTED,),
            )
        )
    if series not in (None, "A2", "A3") and variables.get("HCCL_DETERMINISTIC") == "strict":
        found.append(
            Problem(
                f"HCCL_DETERMINISTIC=strict: supported only on A2 and A3; this machine is {series}",
                (Cure({"engine.env.HCCL_DETERMINISTIC": "true"}),),
                switches=(UNSUPPORTED,),
            )
        )
    return found


def quantization_problems(config: RunConfig, weights: Weights | None) -> list[Problem]:
    """A method that vllm-ascend lacks, or weights that are not what the method reads."""
    chosen = config.engine.quantization
    stored = (weights.config.get("quantization_config") or {}) if weights is not None else {}
    method = chosen or stored.get("quant_method")
    key = f"engine.quantization={chosen}"
    unquantized = (Cure({"engine.quantization": None}),) if chosen else ()
    if method is not None and method not in QUANTIZATIONS:
        where = key if chosen else f"model.pretrained: quantized with {method}"
        what = f"{where}: vllm-ascend supports only {', '.join(QUANTIZATIONS)}"
        return [Problem(what, unquantized, "choose other weights", (UNSUPPORTED,))]
    if weights is None or weights.directory is None:
        return []
    if chosen == "ascend" and not (weights.directory / MODELSLIM_FILE).is_file():
        what = (
            f"{key}: no {MODELSLIM_FILE} in {weights.directory}, so these are not ModelSlim weights"
        )
    elif chosen not in (None, "ascend") and stored.get("quant_method") != chosen:
        what = f"{key}: {weights.directory}/config.json has no quantization_config of that method"
    else:
        return []
    return [Problem(what, unquantized, "choose quantized weights", (UNSUPPORTED,))]


def _precision(
    config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]
) -> list[Problem]:
    dtype = config.engine.dtype
    if dtype == "float32":
        # npu_fused_infer_attention_score: FLOAT16, BFLOAT16, INT8 (torch_npu API, hiascend.com).
        what = f"engine.dtype={dtype}: attention on an NPU needs a 16-bit dtype"
        choices: tuple[str, ...] = ("auto", "float16")
    elif dtype == "float16" and model.get("model_type") in UNSTABLE_IN_FLOAT16:
        what = f"engine.dtype={dtype}: vLLM does not support it for {model['model_type']}"
        choices = ("bfloat16",)
    else:
        return []
    cures = tuple(Cure({"engine.dtype": choice}) for choice in choices)
    return [Problem(what, cures, "run it on another series", (UNSUPPORTED,))]


def _spawn(config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]) -> list[Problem]:
    name = "VLLM_WORKER_MULTIPROC_METHOD"
    method = config.engine.env.get(name, "spawn")
    if method == "spawn":
        return []
    what = (
        f"engine.env.{name}={method}: must be spawn; a forked worker cannot use the NPU "
        '("Cannot re-initialize NPU in forked subprocess")'
    )
    return [Problem(what, (Cure({f"engine.env.{name}": "spawn"}),))]


def _graph(config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]) -> list[Problem]:
    compilation = config.engine.extra.get("compilation_config") or {}
    eager = config.engine.enforce_eager or compilation.get("cudagraph_mode") == "NONE"
    if eager or variables.get("ASCEND_LAUNCH_BLOCKING", "0") != "1":
        return []
    return [
        Problem(
            "ASCEND_LAUNCH_BLOCKING=1: not compatible with graph mode",
            (
                Cure({"engine.enforce_eager": True}),
                Cure({"engine.env.ASCEND_LAUNCH_BLOCKING": "0"}),
            ),
            switches=(UNSUPPORTED,),
        )
    ]


def _flashcomm(
    config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]
) -> list[Problem]:
    key = f"{OPTIONS}.enable_flashcomm1"
    chosen = _options(config).get("enable_flashcomm1")
    inherited = variables.get("VLLM_ASCEND_ENABLE_FLASHCOMM1", "0") not in ("", "0")
    if not (inherited if chosen is None else chosen):
        return []
    if config.parallelism.tp == 1:
        what, cure = f"{key}: needs parallelism.tp=2 or more", Cure({"parallelism.tp": 2})
    elif expert_count(model) > 0 and not config.parallelism.ep:
        what = f"{key}: a mixture-of-experts model needs expert parallelism for it"
        cure = Cure({"parallelism.ep": True})
    else:
        return []
    return [Problem(what, (cure, Cure({key: False})), switches=(UNSUPPORTED,))]


def _unsafe_options(
    config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]
) -> list[Problem]:
    """Options of vllm-ascend that need a serving role, or that spoil what is measured here."""
    chosen, found = _options(config), []
    leave = "leave it out"
    scheduler = chosen.get("scheduler_config") or {}
    roles = (
        ("recompute_scheduler_enable", "decode", chosen),
        ("scheduler_config.recompute_scheduler_enable", "decode", scheduler),
        ("layer_sharding", "prefill", chosen),
    )
    for name, role, options in roles:
        if options.get(name.rpartition(".")[2]):
            what = f"{OPTIONS}.{name}: only for the {role} node of a disaggregated deployment"
            found.append(Problem(what, otherwise=leave, switches=(UNSUPPORTED,)))
    if (chosen.get("xlite_graph_config") or {}).get("enabled") and config.parallelism.pp > 1:
        what = f"{OPTIONS}.xlite_graph_config.enabled: needs parallelism.pp=1"
        cures = (
            Cure({"parallelism.pp": 1}),
            Cure({f"{OPTIONS}.xlite_graph_config.enabled": False}),
        )
        found.append(Problem(what, cures, switches=(UNSUPPORTED,)))
    if chosen.get("enable_reduce_sample"):
        what = (
            f"{OPTIONS}.enable_reduce_sample: makes log-probabilities wrong, and lm-eval scores "
            "choices by log-probability"
        )
        found.append(Problem(what, otherwise=leave, switches=(UNSUPPORTED,)))
    return found


def _options(config: RunConfig) -> dict[str, Any]:
    """vllm-ascend's own options, those that are not typed here included."""
    return {**config.engine.additional_config, **config.engine.extra.get("additional_config", {})}


def _dtype(config: RunConfig, model: dict[str, Any]) -> str | None:
    """What `auto` comes to: the type that config.json names; bfloat16 in place of float32.

    As vLLM 0.23.0 resolves it (_resolve_auto_dtype), where the platform names no other order.
    """
    if config.engine.dtype != "auto" or not model:
        return config.engine.dtype
    parts = (text_config(model), model)
    named = [part[key] for part in parts for key in ("dtype", "torch_dtype") if part.get(key)]
    return str(named[0]) if named and named[0] != "float32" else "bfloat16"
