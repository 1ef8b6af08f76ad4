"""The models of the nightly tests as shipped: what each release makes of their engine arguments.

`vllm serve`'s parser checks the same arguments without a model (tests/served/test_arguments.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from runner.memory.architecture import longest
from tests.contract.client import Upstream
from tests.contract.grid import Case, nightly_models
from tests.contract.wheels import RELEASES

pytestmark = pytest.mark.slow

# By release: models that it does not know, and what it says of them.
UNKNOWN = {
    "0.23.0": dict.fromkeys(
        ("minimax_m3", "minimax_m3_w8a8"), "`minimax_m3_vl` but Transformers does not recognize"
    ),
}


def served(model: str, **changes: Any) -> Case:
    """The model as shipped, behind a server on the series that its file names."""
    hardware = Case("A3", model, "served").config.model.hardware or ""
    series = re.search(r"Atlas (A2|A3) Series", hardware)
    assert series is not None
    return Case(series[1], model, "served", changes)


@pytest.mark.parametrize("model", nightly_models())
def test_a_nightly_model_keeps_its_arguments(
    model: str, release: str, upstream: Callable[[str], Upstream]
) -> None:
    case = served(model)
    args = case.engine_args()
    answer = upstream(case.series).ask(args, case.plan.environment)
    if said := UNKNOWN.get(release, {}).get(model):
        assert re.search(said, answer.refused or ""), "remove it from UNKNOWN"
        return
    assert answer.refused is None
    assert not case.ours()
    facts = answer.facts
    wanted = {name: value for name, value in args.items() if name in facts and value is not None}
    wanted.pop("additional_config", None)  # vllm-ascend adds its own
    wanted["draft_tokens"] = args.get("speculative_config", {}).get("num_speculative_tokens", 0)
    wanted["cudagraph_mode"] = args["compilation_config"]["cudagraph_mode"]
    wanted["expert_parallel"] = args.get("enable_expert_parallel", False)
    wanted["worker_cls"] = "vllm_ascend.worker.worker.NPUWorker"
    wanted["dtype"] = "bfloat16"
    assert {name: facts[name] for name in wanted} == wanted
    assert set(args.get("additional_config", ())) <= set(facts["additional_config"])


@pytest.mark.parametrize("model", nightly_models())
def test_the_longest_sequence_is_what_vllm_derives(
    model: str, release: str, upstream: Callable[[str], Upstream]
) -> None:
    """The memory estimate relies on it where no length is set."""
    case = served(model, **{"engine.max_model_len": None})
    answer = upstream(case.series).ask(case.engine_args(), case.plan.environment)
    if model not in UNKNOWN.get(release, {}):
        assert answer.facts["max_model_len"] == longest(case.weights.config)


def test_unknown_models_are_shipped() -> None:
    assert UNKNOWN.keys() <= RELEASES.keys()
    assert {model for models in UNKNOWN.values() for model in models} <= set(nightly_models())
