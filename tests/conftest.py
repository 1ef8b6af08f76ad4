"""Shared by several test directories: scheduling for two processes, and a sweep with a fault."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

from runner.supervision.processes import shared_memory_of
from tests.swept import Swept, wait_for, worker_of

# The examples of property tests are the same in every run.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")

# A shell starts its background jobs with Ctrl-C ignored, and what the tests start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever the language of the machine: the tests, and what they start, read English.
os.environ["LC_ALL"] = "C.UTF-8"

# Engines run side by side here. An engine's threads wait for each other by spinning, so two of them
# on a busy core take many times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# limits=none: a point that fails is not retried.
ASKED = ("sweep=canary", "limits=none", "task.limit=20")
KILLED = 2  # the first point with two ranks


# Test files that share a run of several minutes, or that would interfere with each other, run in
# the same process.
SHARED = {
    "canary_sweep": "sweep",
    "default_run": "run",
    "text_run": "run",
    "reference_run": "run",
    "text_reference_run": "run",
}
KINDS = {"browser": "sweep", "contract": "contract", "ray": "ray"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler for `-n 2` that keeps the files of one group in the same process.

    xdist's own groups don't work: pytest 9.2 does not let xdist write them into test names.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    return Together(config, log)


@cache
def group_of(file: str) -> str:
    """The group of files that run in one process; the file itself if it is in no group."""
    text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    shared = [group for fixture, group in SHARED.items() if fixture in text]
    kinds = [group for kind, group in KINDS.items() if kind in file]
    return (*shared, *kinds, file)[0]


@dataclass(frozen=True)
class CanarySweep:
    """`sweep=canary` run twice in one directory: first with a killed worker, then resumed."""

    first: Swept
    last: Swept
    left: list[psutil.Process]
    kept: set[Path]


@pytest.fixture(scope="session")
def canary_sweep(tmp_path_factory: pytest.TempPathFactory) -> CanarySweep:
    where = tmp_path_factory.mktemp("canary_sweep")
    directory = where / time.strftime("multirun/%Y-%m-%d/%H-%M-%S")
    directory.parent.mkdir(parents=True)
    sweep = Swept(directory, f"sqlite:///{where / 'mlflow.db'}")
    if os.environ.get("SCREENSHOTS"):  # for tests/browser: all questions, without a fault
        whole = sweep.run("sweep=canary")
        return CanarySweep(whole, whole, [], set())
    process = sweep.start(*ASKED)
    wait_for(lambda: "engine_started" in sweep.events(KILLED))
    worker = worker_of(process)
    worker.suspend()
    family = [worker, *worker.children(recursive=True)]
    assert len(family) > 2
    held = shared_memory_of(family)
    worker.kill()
    first = replace(sweep.finish(process))
    _, left = psutil.wait_procs(family, timeout=20)
    kept = {segment for segment in held if segment.exists()}
    return CanarySweep(first, sweep.run(*ASKED), left, kept)
