"""The outcome of a run: metrics, samples, timings and the resolved engine configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from pydantic import ConfigDict

from runner.language import N_, gettext, ngettext
from runner.look import ONLY, Look
from runner.percent import percent
from runner.served import Served, Speculation


class State(str, Enum):
    """The way in which the worker ended."""

    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    ERROR = "ERROR"
    INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True)
class MetricResult:
    """One metric value that lm-eval reports.

    `n` is the number of questions behind it and `whole` the number without the limit, or None if
    the limit left none out. `binary` says that every question scored 0 or 1. `luck` is the part of
    the value that comes from lm-eval's random guesses. If each question was asked several times,
    the value is the mean over all samples and `repeated` says more.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool | None
    binary: bool
    luck: float = 0.0
    whole: int | None = None
    repeated: Repeated | None = None

    @property
    def name(self) -> str:
        """The metric's name, with its filter if any, for example `exact_match (strict-match)`."""
        return self.metric if self.filter == "none" else f"{self.metric} ({self.filter})"


@dataclass(frozen=True)
class Repeated:
    """What several samples of each question show of a metric.

    Each question was answered `samples` times. `within` is the mean variance of the scores of one
    question and `between` the variance of the questions' means. The rest is None unless all scores
    are 0 or 1: `passed` is the share of questions with at least one right answer, for 1, 2, 4, …
    answers (pass@k), `majority` the share whose most frequent answer is right (maj@k), and
    `always` and `never` are the shares of questions with only right and without right answers.
    """

    samples: int
    within: float
    between: float
    passed: dict[int, float] | None = None
    majority: float | None = None
    always: float | None = None
    never: float | None = None

    @property
    def sometimes(self) -> float | None:
        """Share of questions with right and wrong answers."""
        if self.always is None or self.never is None:
            return None
        return max(1.0 - self.always - self.never, 0.0)


@dataclass(frozen=True)
class Departure:
    """Samples that were not asked as configured.

    `kind` is a short name of the difference and `said` describes it for people. `samples` is the
    number of affected samples; `task` and `doc_id` identify the first one.
    """

    kind: str
    said: str
    samples: int
    task: str
    doc_id: int


class Degeneracy(str, Enum):
    """What is wrong with a degenerate answer; the first that applies (`evidence/degenerate.py`)."""

    NOT_A_NUMBER = N_("not a number")
    REPEATING = N_("repeating")
    REPLACEMENT = N_("replacement")
    EMPTY = N_("empty")


@dataclass(frozen=True)
class Degenerate:
    """Degenerate answers of one kind; `task` and `doc_id` identify the first sample with one."""

    kind: Degeneracy
    answers: int
    task: str
    doc_id: int


@dataclass(frozen=True)
class TaskOutcome:
    """One evaluated lm-eval task, including the subtasks of a group.

    `whole`, `expected` and `evaluated` are numbers of questions: in the task (None in runs of older
    versions), with the limit, and scored by lm-eval. Each was asked `samples` times.

    The other counts are numbers of samples. `truncated`: the prompt was left-truncated to
    max_model_len. `refused`: the prompt never reached the model. `unmatched`: without an engine
    record. `unparsable`: none of the task's filters found an answer. `guessed`: of these, scored
    with a random guess.

    A sample has an answer for each request and repeat of lm-eval's. Of all `answers`, `cut_answers`
    ended at the token limit, and `degenerate` lists those that show a fault. `cut_thinking` are
    those of the cut ones that had not finished their reasoning, and `thought_only` those that ended
    by themselves after the reasoning, without an answer.

    `greedy_by_default` counts samples whose task sets neither do_sample nor temperature, `drawn`
    those whose answers are sampled at random. `departures` lists what was not asked as configured.
    `data_digest` covers the documents and `prompt_digest` the prompts. `look` says at which look at
    its questions the task was scored (`verdict.sequential`); `expected` are then those of that
    look.
    """

    task: str
    metrics: tuple[MetricResult, ...]
    expected: int
    evaluated: int
    truncated: int = 0
    refused: int = 0
    cut_answers: int = 0
    unmatched: int = 0
    unparsable: int = 0
    guessed: int = 0
    seconds: float = 0.0
    output_tokens: int = 0
    answers: int = 0
    prompt_digest: str = ""
    data_digest: str = ""
    whole: int | None = None
    greedy_by_default: int = 0
    drawn: int = 0
    departures: tuple[Departure, ...] = ()
    degenerate: tuple[Degenerate, ...] = ()
    samples: int = 1
    cut_thinking: int = 0
    thought_only: int = 0
    look: Look = ONLY
    # Whether only the questions of `verdict.replay.questions` were asked.
    chosen: bool = False
    # Whether these were a random draw (`verdict.replay.draw`).
    chosen_at_random: bool = False

    @property
    def unit(self) -> str:
        """What `expected` and `evaluated` count, as reports call it after `gettext`."""
        return N_("samples") if self.samples == 1 else N_("questions")

    @property
    def scored(self) -> int:
        """Number of samples of all questions."""
        return self.evaluated * self.samples

    @property
    def degenerate_answers(self) -> int:
        """Number of degenerate answers of any kind."""
        return sum(each.answers for each in self.degenerate)

    @property
    def partial(self) -> bool:
        """Whether samples of the task were left out, by a limit or because the run stopped."""
        return self.whole is not None and self.expected < self.whole

    @property
    def left_out(self) -> str:
        """Why samples of a partial task were left out: the key."""
        if self.chosen:
            return "verdict.replay.draw" if self.chosen_at_random else "verdict.replay.questions"
        return "task.limit" if self.look.last else "verdict.sequential"


@dataclass(frozen=True)
class Feeding:
    """Engine usage: concurrency, engine steps and requests.

    `window` is the maximum number of concurrent requests, `steps` the number of engine steps (None
    for a server) and `asked` the number of requests sent. `resumed` requests had been answered by
    an unfinished attempt. `seconds` is the time between the first request and the last answer.
    `stepping` is the share of it that an engine in the worker's own process spent computing;
    `queued` is the share in which an engine in a separate process had requests. Both are None if
    nothing was asked, or if the runner does not schedule the requests.
    """

    window: int
    steps: int | None
    asked: int
    resumed: int
    seconds: float
    stepping: float | None = None
    queued: float | None = None

    @property
    def said(self) -> str:
        """A one-line summary.

        For example `600 requests (up to 256 concurrent), 14 engine steps, engine busy 53.9 % of
        4 s`.
        """
        parts = [ngettext("{count} request", "{count} requests", self.asked)]
        if self.asked:
            parts = [
                gettext(
                    "{requests} (up to {window} concurrent)", requests=parts[0], window=self.window
                )
            ]
        if self.asked and self.steps is not None:
            parts.append(ngettext("{count} engine step", "{count} engine steps", self.steps))
        for share, message in (
            (self.stepping, N_("engine busy {share} of {seconds:.0f} s")),
            (self.queued, N_("requests queued {share} of {seconds:.0f} s")),
        ):
            if share is not None:
                parts.append(gettext(message, share=percent(share), seconds=self.seconds))
        said = gettext(", ").join(parts)
        if not self.resumed:
            return said
        earlier = gettext(
            "{count} answered in an earlier attempt that did not finish", count=self.resumed
        )
        return gettext("; ").join([said, earlier])


@dataclass(frozen=True)
class Outcome:
    """Everything that a worker measured. `reason` explains a state other than COMPLETED.

    `retries` are the reasons why earlier attempts failed; their errors were transient.
    `speculation` is that of an engine in the worker; a server's is in `served.work`.
    """

    state: State
    reason: str = ""
    tasks: tuple[TaskOutcome, ...] = ()
    engine: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    retries: tuple[str, ...] = ()
    feeding: Feeding | None = None
    served: Served | None = None
    speculation: Speculation | None = None

    @property
    def greedy_by_default(self) -> tuple[str, ...]:
        """Tasks with some subtask that sets no sampling option and none that samples at random."""
        return tuple(each.task for each in self.tasks if each.greedy_by_default and not each.drawn)
