"""python -m tests.faults.moments WHERE: runs that are stopped at a named moment, and those after.

Such a run says that it was interrupted, keeps what it had and leaves no process; the same plan,
started again, ends as if nothing had happened. Prints a JSON object of the exit statuses. As for
tests/faults/loop.py, all runs are forks of this process, started with a worker's environment.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from lm_eval.models import vllm_causallms

from runner import sync
from runner.config.schema import TrackingConfig
from runner.lm import sample_table
from runner.outcome import Outcome, State
from runner.report import markdown
from runner.rundir import read_json
from runner.status import INTERRUPTED, Status
from runner.supervision import supervisor
from runner.verdict import Verdict
from tests.faults.harm import kill
from tests.faults.loop import Rounds, found
from tests.mlflow_server import API, Server, serving, wait_until

# To import MLflow on a busy machine.
PATIENCE_S = 60.0
# What a run asks of its server last before its files: it has sent parameters and metrics by then.
LAST_VALUES = "runs/log-inputs"


@dataclass(frozen=True)
class Moment:
    """The call of this name, the last of `calls` in a run; what the run has come to by then."""

    holder: dict[str, Any]
    name: str
    calls: int
    state: State
    waits: bool = False

    def hold(self, begun: Path, over: Path) -> None:
        """Let it last until there is a file `over`; there is one called `begun` as it begins."""
        real: Callable[..., Any] = self.holder[self.name]
        number = itertools.count(1)

        def held(*arguments: Any, **named: Any) -> Any:
            if next(number) == self.calls:
                begun.touch()
                while not over.exists():
                    time.sleep(0.005)
            return real(*arguments, **named)

        self.holder[self.name] = held


MOMENTS = {
    "the engine starts": Moment(vars(vllm_causallms), "LLM", 1, State.INTERRUPTED),
    # Those of both tasks: the last answer was given.
    "samples are written": Moment(vars(sample_table), "write_samples", 2, State.INTERRUPTED),
    # Its outcome is read, by which nothing is left to be interrupted.
    "the evaluation is over": Moment(vars(supervisor), "read_json", 2, State.COMPLETED, waits=True),
    "the report is written": Moment(vars(markdown), "render", 1, State.COMPLETED, waits=True),
}


class Stops(Rounds):
    """All stops, of one plan."""

    def stop(self, name: str, number: signal.Signals) -> None:
        moment = MOMENTS[name]
        parent = self.start(name, name)
        wait_until(self._begun(name).exists)
        family = _family(parent)
        assert len(family) > 1
        kill(parent, number)
        if moment.waits:
            self._over(name).touch()
        self._ended(name, family, moment.state)
        verdict: Verdict = read_json(self.run(name).verdict, Verdict)
        assert (verdict.status is Status.INTERRUPTED) == (not moment.waits), verdict
        assert self._kept() == (self.questions if name == "samples are written" else 0)
        self._whole(f"{name}, again", self._kept())

    def stop_sending(self, number: signal.Signals, server: Server) -> None:
        """The verdict is on disk, and the server does not answer."""
        name, before = f"it is sent, {number.name}", self.checked
        tracking = TrackingConfig(enabled=True, uri=server.uri, timeout_s=PATIENCE_S)
        self.checked = replace(before, config=replace(before.config, tracking=tracking))
        server.runs.clear()
        server.asked.clear()
        server.misbehave("silent", after=LAST_VALUES)
        parent = self.start(name)
        wait_until(lambda: API + LAST_VALUES in server.asked[:-1], PATIENCE_S)
        family = _family(parent)
        assert len(family) > 2
        kill(parent, number)
        self._ended(name, family, State.COMPLETED)
        assert found(self.run(name)) == self.expected
        upload = f"upload it later with: python -m runner.sync '{self.run(name).path}'"
        assert upload in self._said(name)
        assert _stored(server) == ["RUNNING"]
        server.behave()
        assert sync.main([str(self.run(name).path)]) == 0
        assert _stored(server) == ["FINISHED"]
        server.asked.clear()
        assert sync.main([str(self.run(name).path)]) == 0
        assert server.asked == []
        self.checked = before
        self._whole(f"{name}, again")

    def _ended(self, name: str, family: list[psutil.Process], state: State) -> None:
        self.seen[name] = self.end(name, family[0].pid, INTERRUPTED)
        assert psutil.wait_procs(family, timeout=20)[1] == []
        outcome: Outcome = read_json(self.run(name).outcome, Outcome)
        assert outcome.state is state, outcome
        assert "Traceback" not in self._said(name)

    def _perform(self, name: str, harm: str) -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell says so
        if harm in MOMENTS:
            MOMENTS[harm].hold(self._begun(name), self._over(name))
        return super()._perform(name, harm)

    def _begun(self, name: str) -> Path:
        return self.where / f"{name}.begun"

    def _over(self, name: str) -> Path:
        return self.where / f"{name}.over"

    def _said(self, name: str) -> str:
        return self._printed(name).read_text()


def _family(parent: int) -> list[psutil.Process]:
    """The run's process, its worker, and the one that sends to MLflow."""
    process = psutil.Process(parent)
    return [process, *process.children(recursive=True)]


def _stored(server: Server) -> list[str]:
    return [run["info"]["status"] for run in server.runs.values()]


def main() -> None:
    stops = Stops(Path(sys.argv[1]), seed=0)
    stops.seen.clear()
    for name in MOMENTS:
        stops.stop(name, signal.SIGTERM)
    with serving() as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            stops.stop_sending(number, server)
    print("seen: " + json.dumps(stops.seen), flush=True)


if __name__ == "__main__":
    main()
