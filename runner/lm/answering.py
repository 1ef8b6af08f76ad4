"""Interfaces between an evaluation, its model class and the progress report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runner.errors import UserError
from runner.lm.answer import Answer
from runner.outcome import Feeding
from runner.plan import TracePlan
from runner.served import Served, Speculation

if TYPE_CHECKING:
    from runner.lm.journal import Journal

# A task's name and the function that runs the task to completion.
Named = tuple[str, Callable[[], None]]


def refuse_without_room(answer: int, max_model_len: int) -> None:
    """Raise a UserError if the longest answer leaves no token for a prompt."""
    if answer >= max_model_len:
        raise UserError(
            f"engine.max_model_len={max_model_len}: no room for a prompt in addition to an answer "
            f"of {answer} tokens; raise it, or lower task.max_gen_toks"
        )


class Progress(Protocol):
    """Receives the progress of an evaluation's requests."""

    def enter(self, task: str) -> None:
        """Start reporting on this task."""

    def begin(self, kind: str, total: int) -> None:
        """Start a batch of `total` requests."""

    def advance(self, requests: int) -> None:
        """Record that `requests` more requests have been answered."""

    def beat(
        self,
        seconds_left: Callable[[], float | None] | None = None,
        tokens: Callable[[], int | None] | None = None,
    ) -> None:
        """Record an engine step.

        `seconds_left` estimates the time until all answers of the batch are there, and `tokens`
        counts those generated so far.
        """

    def end(self) -> None:
        """Record that no request is waiting for the engine; lm-eval's own work follows."""


class Model(Protocol):
    """One of lm-eval's model classes, with its answers recorded."""

    tokenizer: Any
    # lm-eval's method: the tokens of a text.
    tok_encode: Callable[..., Sequence[int]]
    # The text that ends a model's reasoning; None if it has none.
    think_end_token: str | None
    # Longest answer, in tokens, where a task sets none.
    max_gen_toks: int

    def launch(self) -> None:
        """Start what becomes ready by itself, in other processes, while requests are built."""

    def start(self) -> None:
        """Start the engine. Before that, requests can be built but not sent."""

    def check_settings(self, settings: dict[str, Any], images: bool) -> None:
        """Raise a UserError for generation settings that the engine would reject.

        It also rejects answers that leave no room for a prompt, except where requests show
        `images`: such prompts are never truncated, and their answers end at max_model_len.
        """

    def begin(self, window: int | None, journal: Journal | None) -> None:
        """Prepare for another run.

        `window` is the number of concurrent requests; None lets the model choose.
        """

    def begin_trace(self, trace: TracePlan) -> None:
        """Record the outputs of all modules from now on, for requests that have a label."""

    def end_trace(self, directory: Path) -> None:
        """Write what has been recorded (runner/evidence/sketches.py), and stop recording."""

    def fed(self) -> Feeding:
        """Engine usage in this run."""

    def served(self) -> Served | None:
        """What a server did in this run; None if the engine is in the worker's process group."""

    def speculation(self) -> Speculation | None:
        """Speculative decoding in this run, unless a server did it; None without it."""

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        """Run tasks that share a batch size and all use, or all don't use, a chat template."""

    def spent(self) -> float:
        """Seconds that the calling task has taken so far."""

    def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
        """The answer to each repeat of a request, and whether its prompt was truncated to fit.

        Empty for a request that was not sent.
        """
