"""Progress of a run: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from runner.channel.worker import (
    MISSING,
    EngineStarted,
    Event,
    Heartbeat,
    Looked,
    Missing,
    Progress,
    Retry,
    Stage,
    StageBegun,
    TaskFinished,
    Waiting,
    Warned,
)
from runner.language import N_, gettext
from runner.platforms.base import UNKNOWN
from runner.present.formats import cut, duration
from runner.visible import visible

PLAIN_LINE_EVERY_S = 10.0
TELLING_SHARE = 0.05
STARTING_WORKER, PREPARING = N_("starting worker"), N_("preparing requests")
STAGES = {
    Stage.IMPORTING_LIBRARIES: N_("importing libraries"),
    Stage.LOADING_TASKS: N_("loading tasks"),
    Stage.CHECKING_ARGUMENTS: N_("checking engine arguments"),
    Stage.BUILDING_REQUESTS: N_("building requests"),
    Stage.STARTING_ENGINE: N_("starting engine"),
}


class ProgressDisplay:
    """Displays worker events; use it as a context manager to restore the terminal.

    `brief` shows only engine starts and request progress.
    """

    def __init__(self, console: Console, brief: bool = False) -> None:
        self._console = console
        self._brief = brief
        self._live = _Live(console) if console.is_terminal else None
        self._asking: Progress | None = None
        self._began = 0.0
        self._last_line = 0.0
        self._estimate: float | Literal[Missing.MISSING] | None = MISSING
        self._tokens_per_s = 0.0

    def __enter__(self) -> ProgressDisplay:
        if self._live is not None:
            self._live.start()
            self._live.stage(gettext(STARTING_WORKER))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Display one event."""
        match event:
            case StageBegun(stage):
                self._stage(stage)
            case EngineStarted(engine):
                self._engine_started(engine)
            case Warned(text):
                self._say(gettext("warning: {text}", text=text))
            case Progress():
                self._progress(event)
            case Heartbeat(seconds_left=left, tokens=tokens):
                self._heartbeat(left, tokens)
            case Looked(task, number, of, asked, questions):
                self._say(
                    gettext(
                        "{task}: look {number} of {of}, {asked} of {questions} questions",
                        task=task,
                        number=number,
                        of=of,
                        asked=asked,
                        questions=questions,
                    )
                )
            case TaskFinished(task, seconds):
                if not self._brief:
                    self._say(
                        gettext("{task} finished in {seconds:.0f} s", task=task, seconds=seconds)
                    )
            case Waiting(said):
                self._say(said)
            case Retry(number, of, reason):
                self._say(
                    gettext(
                        "{reason}; retrying ({number} of {of})", reason=reason, number=number, of=of
                    )
                )
                if self._live is not None:
                    self._live.stage(gettext(STARTING_WORKER))

    def _stage(self, stage: Stage) -> None:
        if self._live is not None:
            self._live.stage(gettext(STAGES[stage]))
        elif not self._brief or stage is Stage.STARTING_ENGINE:
            self._say(f"{gettext(STAGES[stage])} …")

    def _engine_started(self, engine: Mapping[str, Any]) -> None:
        if self._live is not None:
            self._live.stage(gettext(PREPARING))
        if self._brief:
            return
        what = next(iter(engine.get("architectures") or [engine["model"]]))
        details = [f"max_model_len {engine['max_model_len']}"]
        if "transformers" in engine:
            details.append(f"transformers {engine['transformers']}")
        if "num_gpu_blocks" in engine:
            details.append(gettext("{count} KV blocks", count=engine["num_gpu_blocks"]))
        if engine["dtype"] != UNKNOWN:  # a running server does not tell it
            details.insert(0, engine["dtype"])
        said = gettext(", ").join([what, *details])
        self._say(gettext("engine started: {engine}", engine=said))

    def _progress(self, event: Progress) -> None:
        if event.done == 0 or self._asking is None or self._asking.task != event.task:
            self._began = self._last_line = time.monotonic()
            self._estimate = MISSING
            self._tokens_per_s = 0.0
            if self._live is not None:
                self._live.begin(_label(event), event.total)
        self._asking = event
        self._update()

    def _heartbeat(self, left: float | Literal[Missing.MISSING] | None, tokens: int | None) -> None:
        if tokens is not None:
            self._tokens_per_s = tokens / max(time.monotonic() - self._began, 1e-3)
        if left is not MISSING:
            self._estimate = left
        if self._asking is not None and self._asking.done < self._asking.total:
            self._update()

    def _update(self) -> None:
        assert self._asking is not None
        done, total, now = self._asking.done, self._asking.total, time.monotonic()
        rate = done / max(now - self._began, 1e-3)
        # The first answers include the preparation of all prompts, so their rate is misleading.
        telling = done >= TELLING_SHARE * total
        tokens = (
            gettext("{rate:,.0f} tokens/s", rate=self._tokens_per_s) if self._tokens_per_s else ""
        )
        shown = telling if self._live is not None else done > 0
        requests = gettext("{rate:.1f} requests/s", rate=rate) if shown else ""
        speed = gettext(", ").join(filter(None, [requests, tokens]))
        left = self._left(rate if telling else None)
        if self._live is not None:
            self._live.update(done, speed, left)
        elif (done or tokens) and (now - self._last_line >= PLAIN_LINE_EVERY_S or done == total):
            self._last_line = now
            so_far = gettext(
                "{task}: {done}/{total} requests", task=_label(self._asking), done=done, total=total
            )
            self._say(gettext(", ").join(filter(None, [so_far, speed, left])))

    def _left(self, rate: float | None) -> str:
        """The worker's estimate; without one, extrapolated from the finished requests."""
        assert self._asking is not None
        rest = self._asking.total - self._asking.done
        if rest == 0:
            return ""
        seconds = rest / rate if rate else None
        if self._estimate is not MISSING:
            seconds = self._estimate
        return "" if seconds is None else gettext("{time} left", time=duration(seconds))

    def _say(self, text: str) -> None:
        self._console.print(text)


class _Live:
    """A spinner with the elapsed time of a stage, then a progress bar for requests."""

    def __init__(self, console: Console) -> None:
        label = TextColumn("{task.description}", markup=False)
        self._stages = Bars(SpinnerColumn(), label, TimeElapsedColumn())
        self._requests = Bars(
            label,
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        both = Group(self._stages, self._requests)
        self._live = Live(both, console=console, transient=True, refresh_per_second=10)
        self._shown: TaskID | None = None

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def stage(self, stage: str) -> None:
        """Show the current stage and restart its timer."""
        self._clear()
        self._stages.add_task(visible(stage), total=None)

    def begin(self, label: str, total: int) -> None:
        """Show an empty progress bar."""
        self._clear()
        self._shown = self._requests.add_task(cut(visible(label)), total=total, rate="", left="")

    def update(self, done: int, rate: str, left: str) -> None:
        """Update the progress bar."""
        if self._shown is not None:
            self._requests.update(self._shown, completed=done, rate=rate, left=left)

    def _clear(self) -> None:
        self._shown = None
        for each in (self._stages, self._requests):
            for task in each.task_ids:
                each.remove_task(task)


def _label(event: Progress) -> str:
    """`gsm8k`, or `gsm8k (1/3)`."""
    return f"{event.task} ({event.number}/{event.tasks})" if event.tasks > 1 else event.task
