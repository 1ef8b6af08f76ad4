"""The reference engine: transformers, through lm-eval's hf classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.specifiers import SpecifierSet

from runner.config.schema import ModelConfig, RunConfig
from runner.inputs.weights import Weights
from runner.installed import MOVING
from runner.interpreters import Interpreter
from runner.language import gettext
from runner.plan import Plan
from runner.platforms import Platform
from runner.problem import Problem
from runner.runtimes.base import Runtime, chosen, model_arguments, remote_problems
from runner.runtimes.hf import checks

# lm-eval's classes for the same two kinds of model: text, and text with images.
BACKENDS = {"vllm": "hf", "vllm-vlm": "hf-multimodal"}
# lm-eval's `auto` for hf tries 64 prompts of the longest kind on the device, and runs out of memory
# on a CPU; hf-multimodal has no `auto`. Small batches also need little padding.
BATCH_SIZE = "8"


class Transformers:
    """transformers in the worker's process, without vLLM."""

    models = "runner.runtimes.hf.models"
    engine = "transformers"
    engine_packages: tuple[str, ...] = ("transformers",)
    adapter_key = "peft"
    on_devices = False
    local = True
    # transformers applies the weights' generation_config.json to every answer; vLLM, called by
    # lm-eval, does not. A repetition penalty (Qwen2.5-VL's is 1.05) also changes greedy answers.
    plain: Mapping[str, Any] = {"repetition_penalty": 1.0}

    def backend(self, model: ModelConfig) -> str:
        return BACKENDS.get(model.backend, model.backend)

    def arguments(self, config: RunConfig) -> dict[str, Any]:
        engine = config.engine
        settings = {
            **model_arguments(config.model),
            "dtype": engine.dtype,
            "max_length": engine.max_model_len,
            "device": engine.platform,
        }
        return {**chosen(settings), **engine.extra}

    def lm_eval_model(self, plan: Plan) -> tuple[str, dict[str, Any]]:
        return plan.backend, dict(plan.engine_args)

    def batch_size(self, asked: str) -> str:
        return BATCH_SIZE if asked == "auto" else asked

    def packages(self) -> tuple[str, ...]:
        # lm-eval's own model class runs the model here, and vLLM may not be installed.
        return (*(name for name in MOVING if not name.startswith("vllm")), "lm-eval")

    def plugins(self, python: Interpreter) -> Sequence[str]:
        return ()

    def tested(self, platform: str) -> Mapping[str, SpecifierSet]:
        return {}

    def identified(self, config: RunConfig) -> bool:
        return True

    def told(self, config: RunConfig) -> dict[str, str]:
        return {}

    def missing(self, config: RunConfig, platform: Platform) -> list[str]:
        return checks.missing(self.backend(config.model), platform, config.engine.interpreter)

    def problems(self, config: RunConfig, weights: Weights | None) -> list[Problem]:
        return [
            *remote_problems(config),
            *checks.problems(config, self.backend(config.model), weights),
        ]

    def environment(
        self, config: RunConfig, platform: Platform, variables: Mapping[str, str]
    ) -> dict[str, str]:
        settled = platform.worker_environment(1, variables)
        return {name: text for name, text in settled.items() if not name.startswith("VLLM_")}

    def eager(self, arguments: Mapping[str, Any]) -> bool:
        return True

    def described(self, resolved: Mapping[str, Any]) -> str:
        return gettext(
            "transformers {version}, {attention} attention",
            version=resolved["transformers"],
            attention=resolved["attention"],
        )


RUNTIME: Runtime = Transformers()
