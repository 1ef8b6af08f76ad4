"""Probes without an engine: what each way of ending means for the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from runner.config import loading
from runner.config.composition import compose
from runner.config.recorded import ABSENT, Recorded
from runner.errors import UserError
from runner.outcome import State
from runner.rundir import RunDirectory, write_json
from runner.status import EXIT_STATUS, Status
from runner.tracking.courier import Courier
from runner.verdict import Verdict
from runner.why import probes
from runner.why.probes import Prober, Replay, Runs
from tests.compared import rows, write_run

Perform = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Perform], Replay]:
    """A function that runs a probe whose engine is a function."""
    loading.register()
    composed = compose(["tracking=off", "engine=cpu", "engine.extra.block_size=16"])
    tree = OmegaConf.create(OmegaConf.to_yaml(composed, resolve=True))
    assert isinstance(tree, DictConfig)
    monkeypatch.setattr(probes, "check", lambda config, *_: SimpleNamespace(config=config))

    def run(perform: Perform) -> Replay:
        monkeypatch.setattr(probes, "perform", perform)
        changes = {"engine.dtype": "bfloat16", "engine.extra.block_size": ABSENT}
        with Courier() as courier, Console(file=StringIO()) as out:
            runs = Runs(tmp_path / "why", courier, out)
            prober = Prober(runs, Recorded(tree), tmp_path / "good")
            return prober.replay("1-2", changes, {"canary_shape": [3]})

    return run


def ends(verdict: Verdict, status: Status, state: State = State.COMPLETED) -> Perform:
    """An engine that leaves a run with this status."""

    def perform(checked: Any, directory: Path, *_: Any, **__: Any) -> None:
        write_run(directory, rows(3), state=state)
        ended = replace(verdict, status=status, exit_status=EXIT_STATUS[status])
        write_json(RunDirectory(directory).verdict, ended)

    return perform


def test_a_finished_probe_has_samples(
    start: Callable[[Perform], Replay], verdict: Verdict, tmp_path: Path
) -> None:
    found = start(ends(verdict, Status.INCONCLUSIVE))
    assert found.directory == tmp_path / "why/probes/1-2"
    assert found.samples is not None and len(found.samples) == 100
    assert found.command == ""  # the run did not record its own


def test_an_interrupted_probe_ends_the_search(
    start: Callable[[Perform], Replay], verdict: Verdict
) -> None:
    """The supervisor takes the signal and returns, so the probe has a verdict."""
    with pytest.raises(KeyboardInterrupt):
        start(ends(verdict, Status.INTERRUPTED, State.INTERRUPTED))


def test_an_engine_that_fails_has_no_result(
    start: Callable[[Perform], Replay], verdict: Verdict
) -> None:
    found = start(ends(verdict, Status.ERROR, State.ERROR))
    assert found.samples is None and found.reason == "it broke"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("engine.dtype: rejected", "use another"), "engine.dtype: rejected; use another"),
        (OSError(5, "I/O error"), "OSError: [Errno 5] I/O error"),
        (ValueError("a bug"), "ValueError: a bug"),
    ],
)
def test_a_probe_that_cannot_run_has_no_result(
    start: Callable[[Perform], Replay], error: Exception, reason: str
) -> None:
    def perform(*_: Any, **__: Any) -> None:
        raise error

    found = start(perform)
    assert found.samples is None and found.reason == reason


def test_a_full_disk_ends_the_search(start: Callable[[Perform], Replay]) -> None:
    """Else all later probes would be unresolved, and their settings suspects."""

    def perform(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left")

    with pytest.raises(OSError, match="No space left"):
        start(perform)
