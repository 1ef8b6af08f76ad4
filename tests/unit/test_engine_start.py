"""An engine with a process of its own starts while requests are built; any other one afterwards."""

from __future__ import annotations

import threading

import pytest

from runner.runtimes.vllm.early import Early, can_start_early

APART, SPAWNED = "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_WORKER_MULTIPROC_METHOD"


class Engines:
    """Makes a number of an engine as soon as it may."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.may = threading.Event()
        self.errors: list[Exception] = []

    def __call__(self) -> int:
        self.may.wait(60)
        self.made.append(len(self.made))
        if self.errors:
            raise self.errors.pop()
        return self.made[-1]


@pytest.fixture
def engines() -> Engines:
    return Engines()


def test_it_begins_before_it_is_needed(engines: Engines) -> None:
    early = Early(engines)
    early.begin()  # returns
    assert engines.made == []
    engines.may.set()
    assert early.wait() == 0


def test_an_engine_that_a_run_did_not_need_is_the_next_runs(engines: Engines) -> None:
    early = Early(engines)
    early.begin()
    early.begin()
    engines.may.set()
    assert early.wait() == 0
    assert engines.made == [0]


def test_its_error_is_raised_once_and_the_next_start_is_a_new_one(engines: Engines) -> None:
    engines.may.set()
    engines.errors.append(MemoryError("no room"))
    early = Early(engines)
    early.begin()
    with pytest.raises(MemoryError, match="no room"):
        early.wait()
    early.begin()
    assert early.wait() == 1


def test_an_error_that_no_run_waited_for_is_not_the_next_runs(engines: Engines) -> None:
    engines.may.set()
    engines.errors.append(MemoryError("no room"))
    early = Early(engines)
    others = set(threading.enumerate())
    early.begin()
    for thread in set(threading.enumerate()) - others:
        thread.join()
    assert engines.made == [0]
    early.begin()
    assert early.wait() == 1


def test_without_a_beginning_it_is_made_when_it_is_needed(engines: Engines) -> None:
    engines.may.set()
    early = Early(engines)
    assert engines.made == []
    assert early.wait() == 0


@pytest.mark.parametrize(
    ("environment", "early"),
    [
        ({SPAWNED: "spawn"}, True),
        ({SPAWNED: "spawn", APART: "1"}, True),
        ({SPAWNED: "spawn", APART: "0"}, False),
        ({SPAWNED: "fork"}, False),
        ({}, False),
    ],
)
def test_an_engine_in_this_process_or_a_fork_of_it_is_not_early(
    environment: dict[str, str], early: bool
) -> None:
    assert can_start_early(environment) is early
