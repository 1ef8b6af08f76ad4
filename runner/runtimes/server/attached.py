"""A server that is already running: `engine=endpoint`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from packaging.specifiers import SpecifierSet

from runner.config.schema import EngineConfig, ModelConfig, RunConfig
from runner.config.verdict import OF_ANSWERS
from runner.errors import UserError
from runner.inputs.weights import Weights
from runner.interpreters import Interpreter
from runner.plan import Plan
from runner.platforms import Platform
from runner.platforms.remote import Remote
from runner.problem import Cure, Problem
from runner.runtimes.base import Runtime, chosen, model_arguments
from runner.runtimes.server import client_settings
from runner.secrecy.names import is_secrets

# Concurrent requests where the server does not say how many it can work on.
USUAL_WINDOW = 32
# Settings of an engine that is started; a running server has its own.
OF_A_START = ("dtype", "quantization", "enforce_eager", "gpu_memory_utilization")
# Unset unless the user sets them: what model.serve has of them stays out (config/serving.py).
UNSET = ("seed", "extra", "env", "additional_config")


class Attached:
    """Evaluates a server without starting, stopping or changing it."""

    models = "runner.runtimes.server.attached_models"
    engine = "server"
    engine_packages: tuple[str, ...] = ()
    adapter_key = ""
    on_devices = False
    local = False
    plain: Mapping[str, Any] = {}

    def backend(self, model: ModelConfig) -> str:
        return str(model.backend)

    def arguments(self, config: RunConfig) -> dict[str, Any]:
        """What the client needs: tokenizer and chat template, and where the server is."""
        endpoint = config.engine.endpoint
        address = {
            "url": endpoint.url,
            "model": endpoint.model,
            "api_key_env": endpoint.api_key_env,
            "headers": dict(endpoint.headers) or None,
            "ca_file": endpoint.ca_file,
            "probe": endpoint.probe,
            "allow_unsupported": config.engine.allow_unsupported or None,
        }
        settings = {
            **model_arguments(config.model),
            "dtype": "auto",
            "max_model_len": config.engine.max_model_len,
        }
        return {**chosen(settings), "server": chosen({**address, **client_settings(config)})}

    def lm_eval_model(self, plan: Plan) -> tuple[str, dict[str, Any]]:
        """lm-eval's own client, which sends images, but scores no texts, in chat messages."""
        server, images = plan.engine_args["server"], plan.backend == "vllm-vlm"
        path = "chat/completions" if images else "completions"
        arguments = {
            "model": server.get("model", "NAME"),
            "base_url": f"{server['url'].rstrip('/')}/{path}",
            "tokenizer": plan.engine_args["pretrained"],
            "num_concurrent": server.get("window", USUAL_WINDOW),
        }
        return f"local-{path.replace('/', '-')}", arguments

    def batch_size(self, asked: str) -> str:
        return asked

    def packages(self) -> tuple[str, ...]:
        return ()

    def plugins(self, python: Interpreter) -> Sequence[str]:
        return ()

    def tested(self, platform: str) -> Mapping[str, SpecifierSet]:
        return {}

    def identified(self, config: RunConfig) -> bool:
        return config.engine.endpoint.label is not None

    def told(self, config: RunConfig) -> dict[str, str]:
        from runner.runtimes.server.endpoint import endpoint_of
        from runner.runtimes.server.server import server_facts, tells_logprobs

        configured = config.engine.endpoint
        endpoint = endpoint_of(self.arguments(config)["server"])
        facts = server_facts(endpoint)
        rule = config.verdict.rule
        if rule in OF_ANSWERS and not (facts.vllm and tells_logprobs(endpoint, facts.model.id)):
            raise UserError(
                f"verdict.rule={rule}: the server gives no log-probabilities; use another rule"
            )
        length, wanted = facts.model.max_model_len, config.engine.max_model_len
        if length is not None and wanted is not None and wanted > length:
            raise UserError(
                f"engine.max_model_len={wanted}: the server's model has max_model_len {length}; "
                f"set engine.max_model_len={length}, or null"
            )
        told = {
            "label": configured.label,
            "server": facts.version,
            "served model": facts.model.id,
            "served weights": facts.model.root,
            "max_model_len": length,
        }
        return {name: str(value) for name, value in told.items() if value is not None}

    def missing(self, config: RunConfig, platform: Platform) -> list[str]:
        """Prompts with images need their processor, which needs torch; nothing needs vLLM."""
        python = config.engine.interpreter
        absent = [name for name in ("torch", "torchvision") if not python.places(name)]
        if config.model.backend != "vllm-vlm" or not absent:
            return platform.missing(python)
        named = f"{' and '.join(absent)}: {python.pip} install {' '.join(absent)}"
        return [f"prompts with images need {named}"]

    def problems(self, config: RunConfig, weights: Weights | None) -> list[Problem]:
        """Settings that would have no effect on a running server."""
        if wrong := _address(config.engine):
            return [Problem(wrong)]
        if config.verdict.rule == "replay" and config.verdict.replay.way == "decode":
            what = "a running server can't be made to generate given tokens"
            cure = Cure({"verdict.replay.way": "prefill"})
            return [Problem(f"verdict.replay.way=decode: {what}", (cure,))]
        engine, usual = config.engine, config.model.serve
        changed = [name for name in OF_A_START if getattr(engine, name) != getattr(usual, name)]
        changed += [name for name in UNSET if getattr(engine, name)]
        found = [
            f"engine.{name}: the server is already running, so this has no effect"
            for name in changed
        ]
        found += [
            f"parallelism.{name}={getattr(config.parallelism, name)}: the server is already "
            "running, so this has no effect"
            for name in ("tp", "pp", "dp", "ep")
            if getattr(config.parallelism, name) != getattr(usual, name)
        ]
        return [Problem(line, otherwise="remove it") for line in found]

    def environment(
        self, config: RunConfig, platform: Platform, variables: Mapping[str, str]
    ) -> dict[str, str]:
        return platform.worker_environment(0, variables, python=config.engine.interpreter)

    def eager(self, arguments: Mapping[str, Any]) -> bool:
        return False

    def described(self, resolved: Mapping[str, Any]) -> str:
        return str(resolved.get("url", ""))


def _address(engine: EngineConfig) -> str:
    """What is wrong with the server's address or its key; empty if nothing is."""
    if engine.platform != Remote.name:
        return f"engine.platform={engine.platform}: must be {Remote.name} with engine=endpoint"
    variable = engine.endpoint.api_key_env
    if variable is not None and not is_secrets(variable):
        return (
            f"engine.endpoint.api_key_env={variable}: the runner masks the values of variables "
            "whose names tell that they are secret; use a name that ends in KEY or TOKEN"
        )
    if engine.endpoint.url is None:
        return "engine.endpoint.url: required with engine=endpoint: http://host:8000/v1"
    try:
        parts = urlsplit(engine.endpoint.url)
        port = parts.port
    except ValueError as error:
        return f"engine.endpoint.url: not a valid address ({error})"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "engine.endpoint.url: must start with http:// or https://, and name a host"
    if parts.query or parts.fragment:
        return "engine.endpoint.url: must end with the path of the API, usually /v1"
    return ""


RUNTIME: Runtime = Attached()
