"""The run as a person watches it: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_LINE_EVERY_S = 10.0
TELLING_SHARE = 0.05
STARTING = "starting engine"


class ProgressDisplay:
    """Shows the worker's events; use as a context manager, so that the terminal is restored.

    In brief only what takes its time: an engine's start and the requests.
    """

    def __init__(self, console: Console, brief: bool = False) -> None:
        self._console = console
        self._brief = brief
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        self._began = 0.0
        self._last_line = 0.0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: dict[str, Any]) -> None:
        """One event of the worker's."""
        kind = event["event"]
        if self._brief and kind in ("stage", "engine_started", "task_finished"):
            if event.get("stage") == STARTING:
                self._say(f"{STARTING} …")
        elif kind == "stage":
            self._say(f"{event['stage']} …")
        elif kind == "engine_started":
            engine = event["engine"]
            self._say(
                f"engine started: {engine['architectures'][0]}, {engine['dtype']}, "
                f"max_model_len {engine['max_model_len']}, "
                + (
                    f"{engine['num_gpu_blocks']} KV blocks"
                    if "num_gpu_blocks" in engine
                    else f"transformers {engine['transformers']}"
                )
            )
        elif kind == "warning":
            self._say(f"warning: {event['text']}")
        elif kind == "progress":
            self._progress(event)
        elif kind == "task_finished":
            self._say(f"{event['task']} finished in {event['seconds']:.0f} s")
        elif kind == "waiting":
            self._say(event["said"])
        elif kind == "retry":
            self._say(f"{event['reason']}; trying again ({event['number']} of {event['of']})")

    def _progress(self, event: dict[str, Any]) -> None:
        done, total, now = event["done"], event["total"], time.monotonic()
        if done == 0:
            self._began = self._last_line = now
        rate = done / max(now - self._began, 1e-3)
        # The first answers come after every prompt was prepared: no measure of the rest.
        telling = done >= TELLING_SHARE * total
        label = event["task"]
        if event["tasks"] > 1:
            label += f" ({event['number']}/{event['tasks']})"
        if self._bar is not None:
            if done == 0 or self._bar_task is None:
                if self._bar_task is not None:
                    self._bar.remove_task(self._bar_task)
                self._bar_task = self._bar.add_task(label, total=total, rate="")
            said = f"{rate:.1f} requests/s" if telling else ""
            self._bar.update(self._bar_task, completed=done, rate=said)
        elif done and (now - self._last_line >= PLAIN_LINE_EVERY_S or done == total):
            self._last_line = now
            left = f", {(total - done) / rate:.0f} s left" if telling else ""
            self._say(f"{label}: {done}/{total} requests, {rate:.1f} requests/s{left}")

    def _say(self, text: str) -> None:
        self._console.print(text)
