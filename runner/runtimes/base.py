"""What the steps outside the worker need to know of a runtime, and arguments that all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from packaging.specifiers import SpecifierSet

from runner.config.schema import EndpointConfig, ModelConfig, RunConfig
from runner.inputs.paths import absolute
from runner.inputs.weights import Weights
from runner.interpreters import Interpreter
from runner.plan import Plan
from runner.platforms import Platform
from runner.platforms.remote import Remote
from runner.problem import Problem


class Runtime(Protocol):
    """Computes the answers of a run; registered by name in `runner.config.rules.RUNTIMES`."""

    # Name of the module that the worker imports. It has MODEL_CLASSES, lm-eval's model classes by
    # backend (`runner.lm.answering.Model`), and check_engine_args(plan).
    models: str
    # The name that reports use, and the installed packages that it may be, the first one found.
    engine: str
    engine_packages: tuple[str, ...]
    # The engine.extra key for a LoRA adapter.
    adapter_key: str
    # Whether ranks are placed on this machine's devices and their memory is reserved at the start.
    on_devices: bool
    # Whether the engine loads this machine's weights and code, under the worker's environment.
    local: bool
    # Generation settings that lm-eval's own command line needs for the same answers.
    plain: Mapping[str, Any]

    def backend(self, model: ModelConfig) -> str:
        """lm-eval's name of the model class."""

    def arguments(self, config: RunConfig) -> dict[str, Any]:
        """Keyword arguments of lm-eval's model class.

        A null setting is left out, so that lm-eval's or the engine's default applies.
        `engine.extra` takes precedence over all other settings.
        """

    def lm_eval_model(self, plan: Plan) -> tuple[str, dict[str, Any]]:
        """`--model` and `--model_args` of lm-eval's own command line for the same evaluation."""

    def batch_size(self, asked: str) -> str:
        """The batch size that is used for the one asked for, which may be `auto`."""

    def packages(self) -> tuple[str, ...]:
        """Names of the packages that can change its results; plugins are not among them."""

    def plugins(self, python: Interpreter) -> Sequence[str]:
        """Names of the packages installed for its interpreter that it loads as plugins."""

    def tested(self, platform: str) -> Mapping[str, SpecifierSet]:
        """The versions that the runner was tested with, by package."""

    def identified(self, config: RunConfig) -> bool:
        """Whether a later run can tell that it has the same engine; else there is no journal."""

    def told(self, config: RunConfig) -> dict[str, str]:
        """What an engine that is already running says of itself, by name.

        Raises:
            UserError: if it cannot be reached, or is not the configured one.
        """

    def missing(self, config: RunConfig, platform: Platform) -> list[str]:
        """A line for each thing that this machine lacks to run the model at all."""

    def problems(self, config: RunConfig, weights: Weights | None) -> list[Problem]:
        """Problems with settings that this runtime does not support."""

    def environment(
        self, config: RunConfig, platform: Platform, variables: Mapping[str, str]
    ) -> dict[str, str]:
        """Environment variables for the worker alone.

        Raises:
            UserError: if the machine cannot hold the engine.
        """

    def eager(self, arguments: Mapping[str, Any]) -> bool:
        """Whether these arguments ask for execution without graphs."""

    def described(self, resolved: Mapping[str, Any]) -> str:
        """The part of the started engine's settings that is particular to this runtime."""


def model_arguments(model: ModelConfig) -> dict[str, Any]:
    """The model's arguments that all of lm-eval's classes share."""
    template = dict(model.chat_template_args)
    thinking = template.pop("enable_thinking", model.enable_thinking)
    return {
        "pretrained": absolute(model.pretrained),
        "revision": model.revision,
        "tokenizer": absolute(model.tokenizer),
        "trust_remote_code": model.trust_remote_code,
        "max_images": model.max_images if model.backend == "vllm-vlm" else None,
        "enable_thinking": thinking,
        "think_end_token": model.think_end_token,
        "chat_template_args": template or None,
    }


def remote_problems(config: RunConfig) -> list[Problem]:
    """Settings of a running server, which an engine that is started does not have."""
    usual = asdict(EndpointConfig())
    found = [
        f"engine.endpoint.{name}: only with engine=endpoint"
        for name, value in asdict(config.engine.endpoint).items()
        if value != usual[name]
    ]
    if config.engine.platform == Remote.name:
        found.append(f"engine.platform={Remote.name}: only with engine=endpoint")
    return [Problem(line, otherwise="remove it") for line in found]


def chosen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without those that are null."""
    return {key: value for key, value in arguments.items() if value is not None}
