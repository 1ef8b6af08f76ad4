"""What an Ascend machine, or vllm-ascend on it, cannot do with this configuration.

vllm-ascend itself does not notice some of it (devices, bf16 on 310P), notices the rest only in the
engine, minutes later. tests/contract holds these rules against vllm-ascend's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.memory.architecture import expert_count, text_config
from runner.platforms.ascend import Machine, unusable, visible

# NPUPlatform.supported_quantization of vllm-ascend 0.23.0.
QUANTIZATIONS = ("ascend", "compressed-tensors", "fp8", "deepseek_v4_fp8")
# MODELSLIM_CONFIG_FILENAME of vllm-ascend 0.23.0.
MODELSLIM_FILE = "quant_model_description.json"

# _FLOAT16_NOT_SUPPORTED_MODELS of vllm 0.23.0 (vllm/config/model.py), by model_type.
UNSTABLE_IN_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "plamo2", "glm4")

Rule = Callable[[RunConfig, dict[str, Any], Mapping[str, str]], list[str]]


def problems(
    config: RunConfig, weights: Weights | None, machine: Machine, variables: Mapping[str, str]
) -> list[str]:
    """A line for each thing that cannot work; `variables` is the worker's environment.

    What the machine does not tell (series, memory, health) is given the benefit of the doubt.
    """
    model = weights.config if weights is not None else {}
    found = device_problems(config, machine, variables) + build_problems(machine)
    found += series_problems(config, model, machine.series, variables)
    for rule in (_precision, _spawn, _graph, _flashcomm, _unsafe_options):
        found += rule(config, model, variables)
    return found + quantization_problems(config, weights)


def warnings(variables: Mapping[str, str]) -> list[str]:
    """What vllm-ascend would go on with, and a user should know."""
    if variables.get("VLLM_BATCH_INVARIANT") != "1" or find_spec("batch_invariant_ops"):
        return []
    return [
        "VLLM_BATCH_INVARIANT=1: batch_invariant_ops is not installed, and vllm-ascend goes on "
        "without its kernels: answers may still depend on the batch"
    ]


def device_problems(config: RunConfig, machine: Machine, variables: Mapping[str, str]) -> list[str]:
    """Too few devices that are visible, healthy and free for one engine."""
    layout, written = config.parallelism, variables.get("ASCEND_RT_VISIBLE_DEVICES")
    seen, reason = visible(written, len(machine.devices))
    if reason and not seen:
        return [f"ASCEND_RT_VISIBLE_DEVICES={written}: {reason}"]
    needed = layout.tp * layout.pp * layout.dp
    if config.engine.extra.get("distributed_executor_backend") == "ray":
        return []  # the engine spans nodes, and this one sees its own devices alone
    share = config.engine.gpu_memory_utilization
    by_index = {device.index: device for device in machine.devices}
    lost = {index: why for index in seen if (why := unusable(by_index[index], share))}
    usable = len(seen) - len(lost)
    if usable >= needed:
        return []
    what = f"parallelism: tp×pp×dp={needed} needs {needed} NPUs"
    here = f"{len(machine.devices)} here" + (f", {len(seen)} visible" if written else "")
    if reason:
        here += f" (ASCEND_RT_VISIBLE_DEVICES={written}: {reason})"
    if len(seen) < needed:
        return [f"{what}, {here}; lower parallelism.tp, or make more visible"]
    shown = [f"NPU {index}: {why}" for index, why in lost.items()]
    return [f"{what}, {usable} of the {len(seen)} visible are healthy and free. {'; '.join(shown)}"]


def build_problems(machine: Machine) -> list[str]:
    """vllm-ascend's worker asserts this when it starts (check_ascend_device_type)."""
    if None in (machine.series, machine.built_for) or machine.series == machine.built_for:
        return []
    return [
        f"engine=ascend: the installed vllm-ascend was built for {machine.built_for}, this machine "
        f"is {machine.series}; use the container image of its series (docs/ascend.md)"
    ]


def series_problems(
    config: RunConfig, model: dict[str, Any], series: str | None, variables: Mapping[str, str]
) -> list[str]:
    """What one series of chips lacks."""
    found = []
    if series == "310P" and _dtype(config, model) == "bfloat16":
        said = "" if config.engine.dtype == "bfloat16" else " (the model's own)"
        unstable = model.get("model_type") in UNSTABLE_IN_FLOAT16
        cure = "vLLM runs this model in no float16 either" if unstable else "use float16"
        found.append(
            f"engine.dtype={config.engine.dtype}{said}: a 310P computes no bfloat16, and "
            f"vllm-ascend does not say so; {cure}"
        )
    if series not in (None, "A2", "A3") and variables.get("VLLM_BATCH_INVARIANT") == "1":
        found.append(
            f"VLLM_BATCH_INVARIANT=1: vllm-ascend has these kernels for A2 and A3, this machine is "
            f"{series}; use engine=ascend_deterministic"
        )
    if series not in (None, "A2", "A3") and variables.get("HCCL_DETERMINISTIC") == "strict":
        found.append(
            f"HCCL_DETERMINISTIC=strict: A2 and A3 alone support it, this machine is {series}; "
            "use engine.env.HCCL_DETERMINISTIC=true"
        )
    return found


def quantization_problems(config: RunConfig, weights: Weights | None) -> list[str]:
    """A method that vllm-ascend lacks, or weights that are not what the method reads."""
    chosen = config.engine.quantization
    stored = (weights.config.get("quantization_config") or {}) if weights is not None else {}
    method = chosen or stored.get("quant_method")
    key = f"engine.quantization={chosen}"
    if method is not None and method not in QUANTIZATIONS:
        where = key if chosen else f"model.pretrained: quantized with {method}"
        return [f"{where}: vllm-ascend reads {', '.join(QUANTIZATIONS)} alone"]
    if weights is None or weights.directory is None:
        return []
    if chosen == "ascend" and not (weights.directory / MODELSLIM_FILE).is_file():
        return [
            f"{key}: no {MODELSLIM_FILE} in {weights.directory}, so these are no "
            "ModelSlim weights; name quantized ones in model.pretrained, or leave "
            "engine.quantization=null"
        ]
    if chosen not in (None, "ascend") and stored.get("quant_method") != chosen:
        return [
            f"{key}: {weights.directory}/config.json has no quantization_config of that method; "
            "name quantized weights in model.pretrained, or leave engine.quantization=null"
        ]
    return []


def _precision(config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    dtype = config.engine.dtype
    if dtype == "float32":
        # npu_fused_infer_attention_score: FLOAT16, BFLOAT16, INT8 (torch_npu API, hiascend.com).
        return [f"engine.dtype={dtype}: attention on an NPU takes 16 bits; use auto or float16"]
    if dtype == "float16" and model.get("model_type") in UNSTABLE_IN_FLOAT16:
        return [f"engine.dtype={dtype}: vLLM refuses it for {model['model_type']}; use bfloat16"]
    return []


def _spawn(config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    method = config.engine.env.get("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    if method == "spawn":
        return []
    return [
        f"engine.env.VLLM_WORKER_MULTIPROC_METHOD={method}: must be spawn; a forked worker cannot "
        'use the NPU ("Cannot re-initialize NPU in forked subprocess")'
    ]


def _graph(config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    compilation = config.engine.extra.get("compilation_config") or {}
    eager = config.engine.enforce_eager or compilation.get("cudagraph_mode") == "NONE"
    if eager or variables.get("ASCEND_LAUNCH_BLOCKING", "0") != "1":
        return []
    return [
        "ASCEND_LAUNCH_BLOCKING=1: graph mode cannot run with it; unset it, or use "
        "engine.enforce_eager=true"
    ]


def _flashcomm(config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    options = {
        **config.engine.additional_config,
        **config.engine.extra.get("additional_config", {}),
    }
    chosen = options.get("enable_flashcomm1")
    inherited = variables.get("VLLM_ASCEND_ENABLE_FLASHCOMM1", "0") not in ("", "0")
    if not (inherited if chosen is None else chosen):
        return []
    if config.parallelism.tp == 1:
        return ["engine.additional_config.enable_flashcomm1: needs parallelism.tp=2 or more"]
    if expert_count(model) > 0 and not config.parallelism.ep:
        return [
            "engine.additional_config.enable_flashcomm1: a mixture-of-experts model needs "
            "parallelism.ep=true with it"
        ]
    return []


def _unsafe_options(
    config: RunConfig, model: dict[str, Any], variables: Mapping[str, str]
) -> list[str]:
    """Options of vllm-ascend that need a serving role, or that spoil what is measured here."""
    chosen, found = config.engine.additional_config, []
    for name, role in (("recompute_scheduler_enable", "decode"), ("layer_sharding", "prefill")):
        if chosen.get(name):
            found.append(
                f"engine.additional_config.{name}: only for the {role} node of a disaggregated "
                "deployment; leave it out"
            )
    if chosen.get("xlite_graph_config", {}).get("enabled") and config.parallelism.pp > 1:
        found.append("engine.additional_config.xlite_graph_config.enabled: needs parallelism.pp=1")
    if chosen.get("enable_reduce_sample"):
        found.append(
            "engine.additional_config.enable_reduce_sample: log-probabilities are wrong with it, "
            "and lm-eval's choices are judged by them; leave it out"
        )
    return found


def _dtype(config: RunConfig, model: dict[str, Any]) -> str | None:
    """What `auto` comes to: the type that config.json names; bfloat16 in place of float32.

    As vLLM 0.23.0 resolves it (_resolve_auto_dtype), where the platform names no other order.
    """
    if config.engine.dtype != "auto" or not model:
        return config.engine.dtype
    parts = (text_config(model), model)
    named = [part[key] for part in parts for key in ("dtype", "torch_dtype") if part.get(key)]
    return str(named[0]) if named and named[0] != "float32" else "bfloat16"
