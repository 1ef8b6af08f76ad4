"""The configurations of traced runs: what changes, what is rejected, and what is reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner.config import recorded
from runner.config.composed import Composed
from runner.config.composition import compose
from runner.config.recorded import ABSENT, Recorded
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Plan, TracePlan
from runner.run import Checked
from runner.rundir import RunDirectory, write_json
from runner.status import Status
from runner.trace.graphs import Graph
from runner.trace.runs import (
    EXTENSION,
    EXTRA,
    TRACED,
    Replayed,
    Side,
    in_graph_mode,
    other_batches,
    replayed,
    settled,
)
from runner.trace.runs import _refuse_other as refuse_other
from runner.trace.runs import _there as there
from runner.trace.tracing import _dtypes, _noise_side, _suspected
from runner.verdict import Verdict
from tests.traces import departing, result

WHAT = Replayed(Path("/runs/a"), ("canary",), 2)


def _side(*overrides: str) -> Side:
    tree = compose(["model=canary_vl", *overrides])
    plain: Any = OmegaConf.create(OmegaConf.to_yaml(tree, resolve=True))
    return Side("B", Recorded(plain))


def _changes(side: Side) -> dict[str, Any]:
    return settled(side, WHAT, Path("/out/b")).changes


def _notes(side: Side) -> str:
    return " ".join(settled(side, WHAT, Path("/out/b")).notes)


def test_a_traced_configuration_is_a_valid_replay_of_the_same_questions() -> None:
    side = _side("engine=cpu", "verdict=not_worse", "verdict.sequential=true", "task.limit=50")
    config, _ = recorded.again(side.recorded, _changes(side))
    assert (config.verdict.rule, config.verdict.reference) == ("replay", "/runs/a")
    assert (config.task.limit, config.task.names) == (2, ["canary"])
    assert config.engine.enforce_eager and config.engine.extra["worker_extension_cls"] == EXTENSION
    assert not config.verdict.sequential
    assert not config.tracking.enabled and not config.journal.enabled
    assert config.output_dir == "/out/b"
    assert _notes(side) == ""


def test_graph_mode_is_traced_in_eager_mode_and_suspected_unless_it_is_traced_too() -> None:
    side = _side("engine=cuda", "engine.enforce_eager=false")
    assert _changes(side)["engine.enforce_eager"] is True
    assert "traced in eager mode" in _notes(side) and "suspect" not in _notes(side)
    agrees, departs = result().found, result(departing("prefill", "norm", 100.0)).found
    (note,) = _suspected((side, side), agrees, ())
    assert note == "Graph mode of B was not traced: it is a suspect."
    assert not _suspected((side, side), departs, ())
    assert not _suspected((side, side), agrees, (Graph("B", agrees),))
    assert not _suspected((_side("engine=cpu"),), agrees, ())
    graphs = settled(side, WHAT, Path("/out/b"), graph=True)
    assert "engine.enforce_eager" not in graphs.changes and not graphs.notes
    assert in_graph_mode(side) and not in_graph_mode(_side("engine=cpu"))
    assert not in_graph_mode(_side("engine=transformers"))


def test_a_served_engine_is_traced_without_its_server() -> None:
    side = _side("engine=served", "engine.platform=cpu", "parallelism.dp=2")
    changes = _changes(side)
    assert changes["engine.runtime"] == "vllm" and changes["parallelism.dp"] == 1
    assert "without its server" in _notes(side)


def test_transformers_gets_no_setting_of_vllm() -> None:
    side = _side("engine=transformers")
    changes = _changes(side)
    assert EXTRA not in changes and "engine.enforce_eager" not in changes
    config, _ = recorded.again(side.recorded, changes | other_batches(side))
    assert config.task.batch_size == "1" and config.engine.window is None


def test_drafted_tokens_are_left_out() -> None:
    side = _side("engine=cpu", "+engine.extra.speculative_config={method: ngram}")
    assert _changes(side)["engine.extra.speculative_config"] is ABSENT
    assert "speculative" in _notes(side)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("engine=endpoint", "engine.endpoint.url=http://127.0.0.1:9/v1"), "already running"),
        (("engine=cpu", f"+{EXTRA}=package.Other"), "package.Other is set"),
    ],
)
def test_what_cannot_be_traced_is_one_message(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        _changes(_side(*overrides))
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith("B: ")


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ((), {"engine.window": 1}),
        (("engine.window=1",), {"engine.window": 8}),
        (("task.batch_size=1",), {"task.batch_size": "8"}),
        (("task.batch_size=32",), {"task.batch_size": "1"}),
    ],
)
def test_the_noise_run_has_other_batches(
    overrides: tuple[str, ...], changed: Mapping[str, Any]
) -> None:
    side = _side("engine=cpu", *overrides)
    assert other_batches(side) == changed
    recorded.again(side.recorded, _changes(side) | dict(changed))


def _run(directory: Path, evaluated: int = 24, leaves: int = 6, state: str = "COMPLETED") -> Path:
    metrics = tuple(
        MetricResult(name, "acc", "none", 0.5, 0.1, evaluated, True, True)
        for name in ("canary", *(f"canary_{n}" for n in range(leaves)))
    )
    task = TaskOutcome("canary", metrics, evaluated, evaluated)
    write_json(directory / "outcome.json", Outcome(State(state), "", (task,)))
    (directory / "plan.json").write_text("{}")
    return directory


@pytest.mark.parametrize(
    ("questions", "evaluated", "limit"), [(12, 600, 2), (4, 600, 1), (60, 24, 4), (8, 600, 1)]
)
def test_questions_are_spread_over_subtasks_and_are_no_more_than_there_are(
    questions: int, evaluated: int, limit: int, tmp_path: Path
) -> None:
    assert replayed(_run(tmp_path, evaluated), questions).limit == limit


def test_a_run_that_did_not_complete_has_no_answers_to_replay(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        replayed(tmp_path, 12)
    with pytest.raises(UserError, match="did not complete"):
        replayed(_run(tmp_path, state="ERROR"), 12)


def test_chosen_questions_are_replayed_whatever_b_was_asked(tmp_path: Path) -> None:
    a = _run(tmp_path)
    (a / "config.yaml").write_text("task: {limit: 50}\n")
    what = replayed(a, 12, {"canary_0": (3, 41), "canary_1": [7]})
    assert (what.limit, what.questions) == (50, {"canary_0": [3, 41], "canary_1": [7]})
    side = _side("engine=cpu", "task.limit=5")
    config, _ = recorded.again(side.recorded, settled(side, what, Path("/out/b")).changes)
    assert config.verdict.replay.questions == what.questions
    assert config.task.limit == 50
    (a / "config.yaml").write_text("task: {}\n")
    assert replayed(a, 12, {"canary": [1]}).limit is None


def test_nothing_but_a_trace_is_replaced(tmp_path: Path, plan: Plan) -> None:
    files = RunDirectory(tmp_path / "a")
    refuse_other(files)
    files.path.mkdir()
    refuse_other(files)
    (files.path / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="other than a trace"):
        refuse_other(files)
    write_json(files.plan, plan)
    with pytest.raises(UserError, match="other than a trace"):
        refuse_other(files)
    write_json(files.plan, replace(plan, trace=TracePlan()))
    refuse_other(files)
    assert TracePlan() == TracePlan(64, 32, 32, 32)


def _checked(config: RunConfig, plan: Plan, **changes: Any) -> Checked:
    own = replace(plan, **{"trace": TRACED, "unread": "here 1", **changes})
    return Checked(config, Composed("a: 1\n", ""), own, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine_fingerprint": "another version of vLLM, or another variable"},
        {"evaluation_fingerprint": "other answers"},
        {"unread": "here 2"},
        {"trace": replace(TRACED, prompt=8)},
        {"trace": TracePlan()},  # of a version that recorded less
        {"identified": False},
    ],
)
def test_a_trace_of_another_engine_or_of_other_answers_is_not_reused(
    changes: dict[str, Any], tmp_path: Path, config: RunConfig, plan: Plan
) -> None:
    files = RunDirectory(tmp_path)
    done = _checked(config, plan)
    done.composed.write(files)
    write_json(files.plan, done.plan)
    write_json(files.verdict, Verdict(Status.UNJUDGED, "", "", (), 4))
    assert not there(files, done)  # has no sketches
    files.sketches.mkdir()
    (files.sketches / "rank0.npz").write_bytes(b"")
    assert there(files, done)
    assert not there(files, _checked(config, plan, **changes))
    other = replace(done, composed=Composed("a: 2\n", ""))
    assert not there(files, other)


@pytest.mark.parametrize(("noise_dtype", "wanted"), [(True, "bfloat16"), (False, ABSENT)])
def test_the_noise_run_has_the_data_type_of_b_unless_that_is_the_question(
    noise_dtype: bool, wanted: Any
) -> None:
    first = _side("engine=cpu", "engine.dtype=float32")
    second = Side("B", first.recorded, {"engine.dtype": "bfloat16"})
    again = _noise_side(first, second, noise_dtype)
    assert again.changes.get("engine.dtype", ABSENT) == wanted
    assert again.changes["engine.window"] == 1
    (note,) = _dtypes(first, second, noise_dtype)
    assert ("counts as noise" in note) == noise_dtype
    assert "A: float32, B: bfloat16" in note
    assert _dtypes(first, first, noise_dtype) == ()
