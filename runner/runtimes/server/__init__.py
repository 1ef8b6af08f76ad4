"""`vllm serve`, started and stopped by the worker, with the in-process engine's settings."""

from __future__ import annotations

from typing import Any

from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.plan import Plan
from runner.problem import Problem
from runner.runtimes.base import Runtime, chosen, remote_problems
from runner.runtimes.vllm import Vllm, replaying


class Launched(Vllm):
    """A server of the run's own. Data parallelism is vLLM's."""

    models = "runner.runtimes.server.models"

    def arguments(self, config: RunConfig) -> dict[str, Any]:
        return {**super().arguments(config), "server": client_settings(config)}

    def lm_eval_model(self, plan: Plan) -> tuple[str, dict[str, Any]]:
        """The same engine in lm-eval's process, which has no data parallelism of this kind."""
        left_out = ("server", "data_parallel_size")
        return plan.backend, {k: v for k, v in plan.engine_args.items() if k not in left_out}

    def problems(self, config: RunConfig, weights: Weights | None) -> list[Problem]:
        return [*remote_problems(config), *replaying(config)]


def client_settings(config: RunConfig) -> dict[str, Any]:
    """Settings of a server's client: concurrent requests, and limits in seconds."""
    limits = config.limits
    return chosen(
        {
            "window": config.engine.window,
            "request_s": limits.request_s,
            "stall_s": limits.stall_s,
            "start_s": limits.start_s,
        }
    )


RUNTIME: Runtime = Launched()
