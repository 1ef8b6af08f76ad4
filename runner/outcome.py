"""What happened in a run: metrics, samples, timings, the engine as vLLM resolved it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from pydantic import ConfigDict


class State(str, Enum):
    """How the worker came to its end."""

    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    ERROR = "ERROR"
    INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True)
class MetricResult:
    """One number that lm-eval reports.

    `n` is the number of samples behind it, `whole` how many there are without the limit, None if it
    left none out; `binary` says that every sample scored 0 or 1. `luck` is the part of the value
    that lm-eval's random guesses earned.
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
    greedy_by_default: int = 0
    drawn: int = 0
    departures: tuple[Departure, ...] = ()

    @property
    def name(self) -> str:
        """`acc`, or `exact_match (strict-match)` where a task has several filters."""
        return self.metric if self.filter == "none" else f"{self.metric} ({self.filter})"


@dataclass(frozen=True)
class Departure:
    """Samples that were not asked as configured.

    `kind` names what differs, `said` says it to people; `task` and `doc_id` are the first of the
    `samples`.
    """

    kind: str
    said: str
    samples: int
    task: str
    doc_id: int


@dataclass(frozen=True)
class TaskOutcome:
    """One evaluated lm-eval task, subtasks of a group included.

    Counts are samples: `whole` of the task (None in runs of older versions), `expected` of it under
    its limit, `evaluated` by lm-eval; `truncated` prompts lost their beginning to max_model_len,
    `refused` ones never reached the model, `unmatched` have no engine record, `unparsable` ones no
    answer that any of the task's filters could read, `guessed` of these were drawn. A sample has an
    answer for each request and repeat: of all `answers`, `cut_answers` ended at the token limit.

    `greedy_by_default` are samples whose task sets neither do_sample nor temperature, `drawn` those
    whose answers are sampled at random. `departures` says what was not asked as configured.
    `data_digest` is of the documents, `prompt_digest` of what was asked about them.
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

    @property
    def partial(self) -> bool:
        """Whether a limit left samples of the task out."""
        return self.whole is not None and self.expected < self.whole


@dataclass(frozen=True)
class Feeding:
    """How the engine was fed: requests in flight at most, its steps, and requests put to it.

    `resumed` requests had been answered in an attempt that died. Of the `seconds` between first
    request and last answer, an engine in the worker's own process computed for the share
    `stepping`; one in a process of its own had requests for the share `queued`. Both are None where
    nothing was asked, or feeding is not the runner's doing.
    """

    window: int
    steps: int
    asked: int
    resumed: int
    seconds: float
    stepping: float | None = None
    queued: float | None = None

    @property
    def said(self) -> str:
        """`600 requests (up to 256 concurrent), 14 engine steps, 53.9% of 4 s inside steps`."""
        requests = f"{self.asked} request{'' if self.asked == 1 else 's'}"
        if self.asked:
            steps = f"{self.steps} engine step{'' if self.steps == 1 else 's'}"
            requests += f" (up to {self.window} concurrent), {steps}"
        if self.stepping is not None:
            requests += f", {self.stepping:.1%} of {self.seconds:.0f} s inside steps"
        if self.queued is not None:
            requests += f", requests queued {self.queued:.1%} of {self.seconds:.0f} s"
        if self.resumed:
            requests += f"; {self.resumed} answered in an earlier attempt that did not finish"
        return requests


@dataclass(frozen=True)
class Outcome:
    """All that a worker found. `reason` says why where the state is not COMPLETED.

    `retries` are the reasons of the attempts before the last, which were transient.
    """

    state: State
    reason: str = ""
    tasks: tuple[TaskOutcome, ...] = ()
    engine: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    retries: tuple[str, ...] = ()
    feeding: Feeding | None = None

    @property
    def greedy_by_default(self) -> tuple[str, ...]:
        """Tasks that say nothing of sampling, or whose subtasks don't: none of them samples."""
        return tuple(each.task for each in self.tasks if each.greedy_by_default and not each.drawn)
