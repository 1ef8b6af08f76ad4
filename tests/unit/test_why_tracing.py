"""How runner.why traces its causes: what it asks for, and what becomes of a trace that fails."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from runner.config.composition import compose
from runner.config.recorded import Recorded
from runner.errors import UserError
from runner.trace.runs import Replayed, Side
from runner.why import tracing
from runner.why.ddmin import State
from runner.why.found import Cause, Probe
from runner.why.result import Origin
from runner.why.switches import Change, Cost, Switch
from tests.traces import result

GOOD = Recorded(OmegaConf.create({"engine": {"dtype": "float32", "window": None}}))
SWITCHES = [
    Switch((Change("engine.dtype", "float32", "bfloat16"),), Cost.RESTART),
    Switch((Change("engine.window", None, 1),), Cost.RUNNING),
]
QUESTIONS = {"canary_math": [3, 17], "canary_text": [5]}
CAUSES = [
    Cause(
        (number,), Probe("p", "", (number,), State.BAD, "/p", ""), True, 40, 100, traced=QUESTIONS
    )
    for number in (0, 1)
]


@pytest.fixture
def unequal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sides of a trace differ."""
    monkeypatch.setattr(tracing, "replayed", lambda *_: None)
    monkeypatch.setattr(tracing, "_are_equal", lambda *_: False)


def _traced(place: Path) -> tuple[Origin, ...]:
    out = Console(file=io.StringIO())
    return tracing.traced(GOOD, Path("/a"), SWITCHES, CAUSES, place, "command", out)


@pytest.mark.usefixtures("unequal")
def test_the_telling_questions_are_traced_and_a_data_type_is_no_noise_if_it_is_the_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Any, bool]] = []

    def trace(*given: Any, noise_dtype: bool) -> Any:
        asked.append((given[-1], noise_dtype))
        return result()

    monkeypatch.setattr(tracing, "trace", trace)
    origins = _traced(tmp_path)
    assert asked == [(QUESTIONS, False), (QUESTIONS, True)]
    assert [each.directory for each in origins] == [str(tmp_path / f"trace-{n}") for n in (1, 2)]
    assert all((Path(each.directory) / "trace.html").is_file() for each in origins)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("B: rejected"), "B: rejected"),
        (ValueError("attempt to get argmax"), "ValueError: attempt to get argmax"),
        (OSError("disk full"), "OSError: disk full"),
    ],
)
@pytest.mark.usefixtures("unequal")
def test_a_trace_that_fails_leaves_the_causes_and_the_other_traces(
    error: Exception,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = [error]

    def trace(*given: Any, **more: Any) -> Any:
        if left:
            raise left.pop()
        return result()

    monkeypatch.setattr(tracing, "trace", trace)
    first, second = _traced(tmp_path)
    assert (first.trace, first.reason) == (None, reason)
    assert second.trace is not None
    printed = capsys.readouterr().err
    assert ("Traceback" in printed) == (not isinstance(error, UserError))


@pytest.mark.usefixtures("unequal")
def test_an_interrupt_ends_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def trace(*given: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(tracing, "trace", trace)
    with pytest.raises(KeyboardInterrupt):
        _traced(tmp_path)


@pytest.mark.parametrize(
    ("changes", "equal"),
    [
        ({"engine.enforce_eager": True}, True),
        ({"engine.extra.compilation_config.cudagraph_mode": "PIECEWISE"}, True),
        ({"engine.runtime": "server", "parallelism.dp": 2}, True),
        ({"engine.dtype": "bfloat16"}, False),
        ({"engine.extra.max_num_seqs": 4}, False),
    ],
)
def test_what_a_trace_turns_off_can_not_be_traced(
    changes: dict[str, Any], equal: bool, tmp_path: Path
) -> None:
    tree = compose(["model=canary_vl", "engine.enforce_eager=false", f"output_dir={tmp_path}"])
    plain = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(plain, dict)
    good = Recorded(OmegaConf.create(plain))
    sides = Side("a", good), Side("b", good, changes)
    what = Replayed(tmp_path, ("canary",), 2, QUESTIONS)
    assert tracing._are_equal(sides, what, tmp_path) == equal
