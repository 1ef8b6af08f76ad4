"""python -m tests.faults.loop WHERE ROUNDS SEED: runs that come to grief, and runs that go on.

Each round starts a run, does it harm at a random moment, starts the same plan again, and holds that
result against an undisturbed one. Prints a JSON object of what was seen. All runs are forks of this
process, which has imported everything once; started with the environment that a worker has.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import psutil

from runner.attempt import attempt
from runner.config import loading
from runner.config.composed import Composed
from runner.config.rules import RUNTIMES
from runner.config.schema import RunConfig, TrackingConfig
from runner.environment import collect
from runner.journal.attempts import held, records
from runner.outcome import Outcome
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms import PLATFORMS
from runner.rundir import RunDirectory, read_json
from runner.status import INTERRUPTED, Status
from runner.supervision import worker_process
from runner.supervision.processes import group_members, has_ended
from runner.verdict import Verdict
from runner.visible import visible
from tests import standin
from tests.events import events
from tests.faults.forked import ForkedWorker, fork, redirect
from tests.faults.harm import (
    HARM,
    HOSTILE,
    LARGEST_FILE,
    can_mount,
    kill,
    mounted,
    set_back_clock,
    tasks_below,
    tear,
    unmount,
)

OVERRIDES = (
    "engine=cpu",
    "tracking=off",
    "model.backend=vllm",
    "model.max_images=null",
    "task.names=[standin_generate,standin_choose]",
    "task.apply_chat_template=false",
    "verdict.require_baseline=false",
)


@dataclass(frozen=True)
class Found:
    """What a run found, less what differs between any two runs."""

    tasks: tuple[str, ...]
    samples: tuple[str, ...]


class Rounds:
    """All rounds, of one plan."""

    def __init__(self, where: Path, seed: int) -> None:
        self.where = where
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.checked = _checked(tasks_below(where / "tasks"))
        RUNTIMES["standin"] = "tests.standin"
        standin.make(self.checked.plan)
        _import_once(self.checked.plan)
        forking = SimpleNamespace(**{**vars(subprocess), "Popen": ForkedWorker})
        worker_process.subprocess = forking  # type: ignore[assignment]
        self.end("warm", self.start("warm"), 0)
        self.seconds = math.inf
        self.end("undisturbed", self.start("undisturbed"), 0)
        self.questions = len(self._told("undisturbed", "asked"))
        self.expected = found(self.run("undisturbed"))
        self._whole("undisturbed, again")
        self.harms = [harm for harm in HARM if harm != "disk full" or can_mount(where / "disk")]

    def round(self, number: int) -> None:
        harm = self.harms[number % len(self.harms)]
        name = f"{number} {harm}"
        if harm == "disk full":
            assert mounted(self.run(name).path)
        parent = self.start(name, harm)
        time.sleep(self.random.uniform(0, self.seconds))
        if harm == "beside another":
            self._whole(f"{name}, the other")
        workers = self._strike(parent, harm)
        status = self.end(name, parent, *HARM[harm])
        self._wait_for_the_end_of(workers)
        if not harm.startswith(("both", "parent")):  # nobody is left, or one who may just make it
            assert not any(self._temporary(name).glob("runner-*")), name
        self.seen[f"{harm}: {status}"] += 1
        if status == 0:
            assert found(self.run(name)) == self.expected, name
        if harm == "disk full":
            assert "No space left on device" in self._printed(name).read_text()
            unmount(self.run(name).path)
        kept = self._kept()
        if _judged(self.run(name)):
            kept = 0  # what a worker that was killed at its end could not remove is of no use
        elif harm != "no room for samples":
            assert kept >= len(set(self._told(name, "given"))), (name, "an answer is lost")
        if harm.endswith("torn") and kept:
            tear(self._files()[0], self.random)
            torn, kept = kept, self._kept()
            assert torn - 3 <= kept <= torn, (name, torn, kept)
        self._whole(f"{name}, again", kept)
        self.seen["resumed"] += kept

    def _whole(self, name: str, kept: int = 0) -> None:
        """A run without harm, which asks what is not kept, and nothing else."""
        began = time.monotonic()
        self.end(name, self.start(name), 0)
        self.seconds = min(self.seconds, time.monotonic() - began)
        assert found(self.run(name)) == self.expected, name
        outcome: Outcome = read_json(self.run(name).outcome, Outcome)
        asked = self._told(name, "asked")
        assert outcome.feeding is not None
        fed = outcome.feeding.resumed, outcome.feeding.asked
        assert fed == (kept, len(asked)), (name, fed, kept, len(asked))
        assert len(asked) == len(set(asked)) == self.questions - kept, name
        assert self._kept() == 0 or "other" in name, name

    def _told(self, name: str, kind: str) -> list[str]:
        """The questions that engines of this run were asked, or whose answers they gave."""
        file = self.where / f"{name}.asked"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(kind)]

    def _kept(self) -> int:
        """Answers in the journal."""
        found = set()
        for file in self._files():
            with file.open("rb") as stream:
                contents = [json.loads(content) for _, content in records(stream)]
            found |= {tuple(each[:2]) for each in contents if isinstance(each, list)}
        return len(found)

    def hostile(self) -> None:
        """One run of tasks and a model with names that would break out, MLflow and all."""
        around = sorted(self.where.parent.iterdir()), sorted(self.where.iterdir())
        status = self.end("hostile", self.start("hostile", "hostile names"), 0)
        new = {f.name for f in self.where.iterdir()} - {f.name for f in around[1]}
        assert new <= {"hostile", "hostile.asked", "hostile.txt", "mlflow.db", "mlruns"}, new
        assert sorted(self.where.parent.iterdir()) == around[0]
        assert found(self.run("hostile")).samples
        run = self.run("hostile")
        assert "<script>alert" not in run.report_html.read_text()
        for said in (self._printed("hostile"), run.report, run.report_html):
            assert visible(said.read_text()) == said.read_text()
        self.seen[f"hostile names: {status}"] += 1

    def start(self, name: str, harm: str = "") -> int:
        """The pid of a process that performs the run."""
        return fork(lambda: self._perform(name, harm))

    def end(self, name: str, parent: int, *expected: int) -> int:
        """Its exit status; nothing of it lives on, and what it left behind says so too."""
        status = os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1])
        assert status in expected, (status, name, self._printed(name).read_text())
        run = self.run(name)
        deadline = time.monotonic() + 20
        while leaders := [pid for pid in _workers(run) if group_members(pid)]:
            assert time.monotonic() < deadline, (name, "lives on", leaders)
            time.sleep(0.02)
        if run.verdict.exists():
            verdict: Verdict = read_json(run.verdict, Verdict)
            assert status in (verdict.exit_status, INTERRUPTED, -signal.SIGKILL), (name, verdict)
        return status

    def run(self, name: str) -> RunDirectory:
        return RunDirectory(self.where / name)

    def _temporary(self, name: str) -> Path:
        return self.where / "temporary" / name

    def _printed(self, name: str) -> Path:
        return self.where / f"{name}.txt"

    def _perform(self, name: str, harm: str) -> int:
        from runner.report import terminal
        from runner.run import perform
        from runner.supervision.supervisor import Supervisor
        from runner.tracking.courier import Courier

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        redirect(self._printed(name))
        self._temporary(name).mkdir(parents=True)
        tempfile.tempdir = str(self._temporary(name))
        os.environ[standin.TOLD] = str(self.where / f"{name}.asked")
        if harm == "no room for samples":
            os.environ["LARGEST_FILE"] = str(LARGEST_FILE)
        if harm == "clock set back":
            set_back_clock()
        retries = 2 if harm.endswith("tried again") else 0
        config = self.checked.config
        config = replace(config, limits=replace(config.limits, retries=retries))
        if harm == "hostile names":
            config = self._hostile(config)

        def action() -> int:
            checked = replace(self.checked, config=config, plan=_plan(config))
            out, directory = terminal.console(), self.run(name).path
            with Courier() as courier, Supervisor() as engine:
                return perform(checked, directory, engine, courier, out).exit_status

        try:
            return attempt(action, self.run(name).path)[0]
        except KeyboardInterrupt:
            return INTERRUPTED

    def _hostile(self, config: RunConfig) -> RunConfig:
        return replace(
            config,
            model=replace(config.model, name=HOSTILE[0] + "".join(HOSTILE[2:])),
            task=replace(config.task, names=list(HOSTILE), limit=3),
            tracking=TrackingConfig(enabled=True, uri=f"sqlite:///{self.where / 'mlflow.db'}"),
        )

    def _strike(self, parent: int, harm: str) -> list[psutil.Process]:
        """The workers that there were."""
        kill(parent, signal.SIGSTOP)  # it starts none that is not seen here
        workers = psutil.Process(parent).children()
        if harm.startswith(("worker killed", "both")):
            for each in workers:
                kill(each.pid, signal.SIGKILL)
        if harm.startswith(("parent", "both")):
            kill(parent, signal.SIGKILL)
        if harm == "terminated":
            kill(parent, signal.SIGTERM)
        kill(parent, signal.SIGCONT)
        return workers

    def _wait_for_the_end_of(self, workers: list[psutil.Process]) -> None:
        """Also of one that its parent was killed too early to tell of.

        One whose leader has ended may have threads that still are to, and hold its file till then.
        """
        deadline = time.monotonic() + 60
        while not all(map(has_ended, workers)) or any(map(held, self._files())):
            assert time.monotonic() < deadline, "a worker lives on"
            time.sleep(0.02)

    def _files(self) -> list[Path]:
        return list(self.where.glob("journal/*/*.answers"))


def found(run: RunDirectory) -> Found:
    """Every metric and every sample of a run that is whole, each once."""
    import pyarrow.parquet as pq

    outcome: Outcome = read_json(run.outcome, Outcome)
    assert all(seconds >= 0 for seconds in outcome.timings.values()), outcome.timings
    table = pq.read_table(run.samples).drop_columns("seconds")  # no two attempts take equally long
    rows = sorted(map(repr, table.to_pylist()))
    assert len(rows) == len(set(rows)) == sum(task.evaluated for task in outcome.tasks)
    tasks = [repr({**asdict(task), "seconds": 0}) for task in outcome.tasks]
    return Found(tuple(tasks), tuple(rows))


def _checked(tasks: Path) -> Any:
    from runner.run import Checked

    loading.register()
    with hydra.initialize_config_dir(str(loading.config_directory()), version_base="1.3"):
        places = [f"task.include_path={tasks}", f"journal.dir={tasks.parent / 'journal'}"]
        composed = hydra.compose("config", [*OVERRIDES, *places])
        config = loading.load(composed)
    return Checked(config, Composed(""), _plan(config), collect(PLATFORMS["cpu"]))


def _plan(config: RunConfig) -> Plan:
    facts = Facts(versions={}, device="made up", weights="0", data="", environment={})
    return replace(make_plan(config, facts), runtime="standin")


def _import_once(plan: Any) -> None:
    """What a run imports, or reads for seconds, so that its forks have it."""
    import scipy.special  # noqa: F401

    from runner.lm import evaluate, tasks
    from runner.present import plots
    from runner.report import run_page

    assert evaluate.evaluate and run_page.render
    plots.load()
    names = [each.task for each in plan.evaluations]
    manager = tasks.task_manager(plan.include_path, names, {})
    tasks.task_manager = lambda *given: manager


def _judged(run: RunDirectory) -> bool:
    """Whether the harm came when its verdict was on disk already."""
    if not run.verdict.exists():
        return False
    verdict: Verdict = read_json(run.verdict, Verdict)
    return verdict.status not in (Status.ERROR, Status.INTERRUPTED)


def _workers(run: RunDirectory) -> list[int]:
    """The worker processes that a run has started so far."""
    return [event["pid"] for event in events(run.events) if event["event"] == "worker_started"]


def main() -> None:
    where, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rounds = Rounds(where, seed)
    for number in range(count):
        rounds.round(number)
    rounds.hostile()
    print("seen: " + json.dumps({"seconds": rounds.seconds, **rounds.seen}), flush=True)


if __name__ == "__main__":
    main()
