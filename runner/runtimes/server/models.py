"""lm-eval's vLLM model classes with a server as their engine."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm import EngineArgs

from runner.errors import UserError
from runner.outcome import Feeding
from runner.plan import Plan
from runner.platforms.base import UNKNOWN
from runner.runtimes.server.arguments import serve_arguments
from runner.runtimes.server.attached import USUAL_WINDOW
from runner.runtimes.server.endpoint import Endpoint, endpoint_of
from runner.runtimes.server.engine import ServedEngine
from runner.runtimes.server.exchanged import Exchanged
from runner.runtimes.server.expected import Expected, ExpectedTokens
from runner.runtimes.server.health import check_health
from runner.runtimes.server.launch import LaunchedServer, server_environment
from runner.runtimes.server.metrics import work_between
from runner.runtimes.server.probe.examining import check_identity
from runner.runtimes.server.probe.identity import Agreement
from runner.runtimes.server.probe.local import LocalModel
from runner.runtimes.server.probe.questions import TEXTS
from runner.runtimes.server.requests import Requests
from runner.runtimes.server.retries import Patience
from runner.runtimes.server.server import check_unchanged, server_counters, server_facts
from runner.runtimes.vllm import arguments
from runner.runtimes.vllm.gate import Gate
from runner.runtimes.vllm.models import LARGEST_WINDOW, FedVLLM, FedVLM
from runner.runtimes.vllm.stream import Stream
from runner.served import FirstToken, Latency, Served, Speed

if TYPE_CHECKING:
    from runner.lm.answering import Progress
    from runner.lm.journal import Journal

# Requests for a text that are ready while the server is full: they are small, and the client can
# send many in a row without delay (docs/performance.md).
PREPARED = 256
# Settings that only a started engine knows.
OF_CACHE = ("block_size", "num_gpu_blocks")


class ServedVLLM(FedVLLM):
    """lm-eval's `vllm` class in front of a server, which `start` launches or connects to.

    `server` are the address and the limits of the client (`Runtime.arguments`).
    """

    def __init__(
        self, *args: Any, server: dict[str, Any], progress: Progress, **engine: Any
    ) -> None:
        self._server, self._engine_args = server, engine
        # lm-eval would start replicas of its own.
        alone = {name: each for name, each in engine.items() if name != "data_parallel_size"}
        super().__init__(*args, progress=progress, **alone)
        self._launched: LaunchedServer | None = None

    def launch(self) -> None:
        """Launch the server, if it is the run's own. Its start takes longer than all requests."""
        if "url" not in self._server and self._launched is None:
            arguments = serve_arguments(self._serving())
            self._launched = LaunchedServer(arguments, "model", server_environment(os.environ))

    def start(self) -> None:
        """Wait until the launched server is ready, or connect to the one that is running.

        Raises:
            UserError: if it cannot be reached, or is not the configured one.
            ServerError: if it does not become ready.
        """
        self._config = self._command = None
        max_length = self.max_length
        self._identity, self._health = "", None
        if "url" in self._server:
            endpoint = endpoint_of(self._server)
            self._identity = self._identified(endpoint)
            self._health = check_health(endpoint, self._server)
        else:
            self._config = self._vllm_config()
            self.launch()
            assert self._launched is not None
            self._launched.wait(self._server.get("start_s", math.inf))
            endpoint, self._command = self._launched.endpoint, self._launched.command
        self._endpoint = endpoint
        self._facts = facts = server_facts(endpoint)
        length = min(max_length, facts.model.max_model_len or max_length)
        self._connected = ServedEngine(
            endpoint,
            Requests(
                replace(facts, model=replace(facts.model, max_model_len=length)),
                self._conversation,
                self.template_arguments,
                self._expected,
            ),
            connections=max(self._server.get("window", 0), LARGEST_WINDOW),
            patience=Patience(
                request_s=self._server["request_s"],
                # A server of the run's own that has ended does not come back.
                stall_s=0.0 if self._command else self._server.get("stall_s", math.inf),
            ),
            stall_s=self._server.get("stall_s", math.inf),
        )
        self.stream = Stream(self._connected, self.progress)
        self.model = Gate(self._connected, self.stream, max_length)

    def begin(self, window: int | None, journal: Journal | None) -> None:
        super().begin(window, journal)
        self._window = self.stream.window
        self._connected.at_once(self._window)
        self.stream.window += self._prepared()
        self._connected.exchanged = exchanged = Exchanged()
        self.stream.taken_over = exchanged.taken_over
        check_unchanged(self._endpoint, self._facts)
        self._before = server_counters(self._endpoint)

    def resolved(self) -> dict[str, Any]:
        """The server's settings: its own account, and vLLM's resolution of the same arguments."""
        facts = self._facts
        told = {"model": facts.model.id, "served_by": facts.version or UNKNOWN}
        if self._config is None:
            length = facts.model.max_model_len or self.max_length
            return {**told, "dtype": UNKNOWN, "max_model_len": length, "url": facts.url}
        cache = {name: int(facts.cache[name]) for name in OF_CACHE if name in facts.cache}
        return {**arguments.resolved_engine(self._config), **cache, **told}

    def served(self) -> Served:
        """The server's counters and the client's, since the run began."""
        exchanged, facts = self._connected.exchanged, self._facts
        after = server_counters(self._endpoint)
        work = None
        if self._before is not None and after is not None:
            work = work_between(self._before, after)
        return Served(
            version=facts.version,
            model=facts.model.id,
            weights=facts.model.root,
            command=shlex.join(self._command or ()),
            asked=exchanged.asked,
            answered=exchanged.answered,
            retried=dict(exchanged.retried),
            different=exchanged.different,
            first_difference=exchanged.first_difference,
            unverified=exchanged.unverified,
            shortened=exchanged.shortened,
            reasoned=exchanged.reasoned if not self.think_end_token else 0,
            answered_by={" ".join(each): count for each, count in exchanged.served.items()},
            missing=dict(exchanged.missing),
            identity=self._identity,
            health=self._health,
            latency=_latency(exchanged.seconds),
            first_token=_first_token(exchanged.first_tokens.seconds),
            speed=_speed(exchanged.speeds),
            work=work,
        )

    def _identified(self, endpoint: Endpoint) -> str:
        """How the server's tokens compare with those of the configured model.

        Raises:
            UserError: if it is another model. A chat template of the server's own is no reason:
                prompts of tokens do not need it, and prompts with images are compared one by one.
        """
        model = LocalModel(self.model_args["model"], self.tokenizer)
        found = check_identity(endpoint, model)
        wrong = [
            f"{each.name}, {each.difference}"
            for each in found.prompts
            if each.name in TEXTS and each.agreement is Agreement.DIFFERENT
        ]
        if found.vocabulary is not None:
            wrong += found.vocabulary.different
        if wrong and not self._server.get("allow_unsupported"):
            raise UserError(
                f"model.pretrained={model.name}: the server has another tokenizer ({wrong[0]}); "
                "set model.pretrained to the model that it serves, or run anyway with "
                "engine.allow_unsupported=true"
            )
        return "; ".join([found.reason, *wrong[:1]])

    def _prepared(self) -> int:
        """How many requests are ready to be sent while the server is full."""
        return max(self._window, PREPARED)

    def _concurrent(self) -> int:
        if self._config is None:
            return USUAL_WINDOW
        replicas = self._config.parallel_config.data_parallel_size
        return int(self._config.scheduler_config.max_num_seqs * replicas)

    def _computes_here(self) -> bool:
        return False

    def fed(self) -> Feeding:
        fed = super().fed()
        window = fed.window if self._chunked else self._window
        return replace(fed, window=window, steps=None)  # the stream's steps only fetch answers

    def _serving(self) -> dict[str, Any]:
        """The engine's arguments as vLLM has them, with all its replicas."""
        replicas = self._engine_args.get("data_parallel_size")
        return {**self.model_args, "data_parallel_size": replicas}

    def _vllm_config(self) -> Any:
        given = {name: value for name, value in self._serving().items() if value is not None}
        return EngineArgs(**given).create_engine_config()

    def _conversation(self, prompt: str) -> Sequence[dict[str, Any]] | None:
        """The conversation that the chat template made the prompt of."""
        return None

    def _expected(self, prompt: Any) -> Expected | None:
        """The token ids that an engine in this process would make of a prompt with images."""
        return None


class ServedVLM(ServedVLLM, FedVLM):
    """lm-eval's `vllm-vlm` class in front of a server, which gets images in chat messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._conversations: dict[str, list[dict[str, Any]]] = {}
        super().__init__(*args, **kwargs)
        self._tokens = ExpectedTokens(self.processor)

    def apply_chat_template(
        self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        prompt: str = super().apply_chat_template(chat_history, add_generation_prompt)
        self._conversations[prompt] = deepcopy(chat_history)  # lm-eval has made parts of its texts
        return prompt

    def _conversation(self, prompt: str) -> Sequence[dict[str, Any]] | None:
        return self._conversations.get(prompt)

    def _prepared(self) -> int:
        return self._window  # each holds its images

    def _expected(self, prompt: Any) -> Expected | None:
        return self._tokens.of(prompt["prompt"], prompt["multi_modal_data"]["image"])


def check_engine_args(plan: Plan) -> None:
    """Reject arguments that vLLM, or `vllm serve`, does not know or cannot combine.

    Raises:
        UserError: with the name of the unknown argument, or with vLLM's own reason.
    """
    engine = {name: value for name, value in plan.engine_args.items() if name != "server"}
    if "url" in plan.engine_args["server"]:
        return  # the server has checked its arguments long ago
    arguments.check_engine_args(replace(plan, engine_args=engine))
    serve_arguments(engine)


def _latency(seconds: Sequence[float]) -> Latency | None:
    if not seconds:
        return None
    p50, p90, p99 = _percentiles(seconds, 50, 90, 99)
    return Latency(p50, p90, p99, float(max(seconds)))


def _first_token(seconds: Sequence[float]) -> FirstToken | None:
    if not seconds:
        return None
    p50, p90 = _percentiles(seconds, 50, 90)
    return FirstToken(p50, p90, len(seconds))


def _speed(speeds: Sequence[float]) -> Speed | None:
    return Speed(*_percentiles(speeds, 50, 10, 1)) if speeds else None


def _percentiles(values: Sequence[float], *percents: int) -> list[float]:
    return [float(each) for each in np.percentile(values, percents)]


MODEL_CLASSES: dict[str, type[FedVLLM]] = {"vllm": ServedVLLM, "vllm-vlm": ServedVLM}
