"""The tree of a search in a terminal."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from runner.channel.worker import EVENTS, EngineStarted, Progress, Stage, StageBegun
from runner.rundir import RunDirectory
from runner.why.ddmin import State
from runner.why.evidence import Side
from runner.why.found import Ask, Cause, Found, Level, Probe
from runner.why.ladder import Rung, Tried
from runner.why.probes import Runs
from runner.why.switches import Change, Cost, Switch
from runner.why.tree import SearchTree

SWITCHES = [Switch((Change(f"engine.extra.s{n}", 0, 1),), Cost.RESTART) for n in range(4)]


@pytest.fixture
def running() -> set[str]:
    """The names of the runs that have begun."""
    return set()


@pytest.fixture
def out() -> Console:
    return Console(file=StringIO(), width=80, height=40, force_terminal=True, soft_wrap=True)


@pytest.fixture
def tree(tmp_path: Path, running: set[str], out: Console) -> SearchTree:
    runs = cast(Runs, SimpleNamespace(running=running))
    return SearchTree(out, runs, tmp_path)


def shown(tree: SearchTree, height: int = 40) -> list[str]:
    console = Console(file=StringIO(), width=80, height=height, soft_wrap=True)
    with console.capture() as captured:
        console.print(tree)
    return [line.rstrip() for line in captured.get().splitlines()]


def level(title: str, *names: str) -> Level:
    return Level(title, tuple(Ask(name, f"settings {name}", {}) for name in names))


def probe(name: str, state: State = State.GOOD) -> Probe:
    side = Side(state, 3, 22, 1e-9, 1e-3)
    return Probe(name, f"settings {name}", (), state, "", "", 0.01, side)


def began(place: Path, name: str, *events: Any) -> None:
    run = RunDirectory(place / "probes" / name)
    run.path.mkdir(parents=True)
    run.events.write_bytes(b"".join(map(EVENTS.encode, events)))


def test_what_each_probe_of_a_level_does(
    tree: SearchTree, running: set[str], tmp_path: Path
) -> None:
    tree.ahead([level("cause 1", "1-1", "1-2", "1-3", "1-4", "1-5")])
    running |= {"1-2", "1-3-more", "1-4"}
    began(tmp_path, "1-2", StageBegun(Stage.STARTING_ENGINE))
    began(tmp_path, "1-3-more", EngineStarted({}), Progress("canary", 1, 1, 12, 64))
    began(tmp_path, "1-4", StageBegun(Stage.LOADING_TASKS, time=time.time() - 3600))
    tree.tell(probe("1-1", State.BAD))
    first, *lines = shown(tree)
    assert first == "cause 1"
    assert lines[0] == "├── differs   settings 1-1: RMS 0.1 nats;"
    assert lines[1] == "│             3 of 22 questions as in the bad run (p = 1e-09)"
    assert lines[2].endswith("settings 1-2: starting engine")
    assert lines[3].endswith("settings 1-3: 12/64 requests")
    assert lines[4].endswith("settings 1-4: checking")  # the event is of an earlier attempt
    assert lines[5] == "└── waiting   settings 1-5"
    tree.tell(probe("1-3-more"))
    assert any("agrees    settings 1-3" in line for line in shown(tree))


def test_what_is_not_needed_is_left(tree: SearchTree, running: set[str]) -> None:
    tree.ahead([level("one", "1-1", "1-2")])
    running.add("1-2")
    tree.tell(probe("1-1", State.BAD))
    tree.ahead([level("two", "1-3")])
    assert "└── unneeded  settings 1-2" in shown(tree)


def test_an_interrupted_search_says_stopped(tree: SearchTree, out: Console) -> None:
    with pytest.raises(KeyboardInterrupt), tree:
        tree.ahead([level("one", "1-1")])
        raise KeyboardInterrupt
    assert "stopped   settings 1-1" in out.file.getvalue()  # type: ignore[attr-defined]


def test_levels_that_ended_are_one_line_in_a_short_terminal(tree: SearchTree) -> None:
    for number in range(4):
        names = [f"{number}-{each}" for each in range(4)]
        tree.ahead([level(f"level {number}", *names)])
        if number < 3:
            tree.tell(probe(names[0]))
            tree.tell(probe(names[1], State.BAD))
    assert len(shown(tree)) > 24
    short = shown(tree, 16)
    assert len(short) <= 14
    assert short[0] == "level 0: 1 agrees, 1 differs, 2 unneeded"
    assert "waiting   settings 3-0" in short[-4]


def test_causes_appear_as_soon_as_they_are_found(tree: SearchTree) -> None:
    found = Found()
    tree.follow(found, SWITCHES)
    tree.ahead([level("cause 1", "1-3")])
    assert not any("found" in line for line in shown(tree))
    found.causes.append(Cause((2,), probe("1-3")))
    assert shown(tree)[-1] == "found cause 1: engine.extra.s2: 0 → 1"


def test_rungs_have_a_line_each(tree: SearchTree, running: set[str], tmp_path: Path) -> None:
    tree.ahead([Level("changes", (Ask("rung-1", "eager mode", {}),))])
    running.add("rung-1-scores")
    began(tmp_path, "rung-1-scores", StageBegun(Stage.BUILDING_REQUESTS))
    assert shown(tree)[1].endswith("eager mode: building requests")
    tree.tried(Tried(Rung("eager mode", ()), "no effect"))
    tree.tried(Tried(Rung("one device", ()), "the bad run had this already"))
    assert shown(tree)[1:] == [
        "├── eager mode: no effect",
        "└── one device: the bad run had this already",
    ]


def test_no_line_is_wider_than_the_terminal(tree: SearchTree) -> None:
    long = Ask("bad", " ".join(["engine.extra.a_long_name=1"] * 8), {})
    tree.ahead([Level("a level of " + "words " * 20, (long,))])
    lines = shown(tree)
    assert max(map(len, lines)) <= 80 and len(lines) > 4
