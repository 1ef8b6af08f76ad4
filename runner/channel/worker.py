"""Messages between the supervisor and the worker: commands to it, events from it.

The events, and those of the supervisor, are also the lines of a run's `events.jsonl`, which users
read: names and fields of events stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from runner.channel.lines import ChannelError, Codec, Message
from runner.outcome import State

# The version of the messages below and of the files that the worker reads and writes (plan.json,
# outcome.json). Increase it with each change that an older worker or runner cannot read.
PROTOCOL = 1


class Stage(str, Enum):
    """What the worker does before it sends requests to the engine, as `events.jsonl` has it."""

    IMPORTING_LIBRARIES = "importing libraries"
    LOADING_TASKS = "loading tasks"
    CHECKING_ARGUMENTS = "checking engine arguments"
    BUILDING_REQUESTS = "building requests"
    STARTING_ENGINE = "starting engine"


class Missing(Enum):
    """Stands for a field that a message does not have, where None is one of its values."""

    MISSING = "missing"


MISSING = Missing.MISSING


@dataclass(frozen=True)
class Event(Message):
    """Base class of events. `time` is when it happened, in seconds since the epoch."""

    time: float = field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True)
class WorkerStarted(Event):
    """The worker process is ready for commands. `python` is its interpreter.

    This message has the same fields in every version, so that any can be told from another; the
    versions before there was a `protocol` send only `pid`.
    """

    pid: int
    protocol: int = 0
    python: str = ""


@dataclass(frozen=True)
class StageBegun(Event):
    """The worker has begun a stage."""

    stage: Stage


@dataclass(frozen=True)
class EngineStarted(Event):
    """The engine is ready. `engine` is what it resolved its settings to."""

    engine: dict[str, Any]


@dataclass(frozen=True)
class Progress(Event):
    """Requests of a task have been answered: `done` of `total`.

    The task is `number` of `tasks`. `kind` is the kind of requests where a batch begins.
    """

    task: str
    number: int
    tasks: int
    done: int
    total: int
    kind: str = ""


@dataclass(frozen=True)
class Heartbeat(Event):
    """The engine has made `steps` steps in all.

    `seconds_left` estimates the time until all requests of the batch are answered. It is None if
    there is no estimate yet, and missing if there will be none. `tokens` counts the generated
    tokens of the batch, where the engine tells.
    """

    steps: int
    seconds_left: float | Literal[Missing.MISSING] | None = MISSING
    tokens: int | None = None


@dataclass(frozen=True)
class RequestsFinished(Event):
    """No request of the task is waiting for the engine; lm-eval's own work follows."""

    task: str
    steps: int


@dataclass(frozen=True)
class TaskFinished(Event):
    """A task has been scored, and its outcome written."""

    task: str
    seconds: float


@dataclass(frozen=True)
class Looked(Event):
    """`asked` of a task's `questions` are answered and scored, and their outcome is written.

    The worker waits for a `Decision`. This is look `number` of `of`.
    """

    task: str
    number: int
    of: int
    asked: int
    questions: int


@dataclass(frozen=True)
class Warned(Event):
    """The user should know this; the run goes on."""

    text: str


@dataclass(frozen=True)
class Unchecked(Event):
    """A check could not check this."""

    text: str


@dataclass(frozen=True)
class RequestsBuilt(Event):
    """A check has built its requests: their number by task."""

    requests: dict[str, int]


@dataclass(frozen=True)
class RunEnded(Event):
    """The run or check has ended, and its outcome is in its directory."""

    state: State


@dataclass(frozen=True)
class Waiting(Event):
    """The supervisor waits, or has waited, for device memory."""

    said: str


@dataclass(frozen=True)
class Retry(Event):
    """The supervisor makes another attempt, `number` of at most `of` retries."""

    number: int
    of: int
    reason: str


EVENTS: Codec[Event] = Codec(
    "event",
    {
        "worker_started": WorkerStarted,
        "stage": StageBegun,
        "engine_started": EngineStarted,
        "progress": Progress,
        "heartbeat": Heartbeat,
        "requests_finished": RequestsFinished,
        "task_finished": TaskFinished,
        "look": Looked,
        "warning": Warned,
        "unchecked": Unchecked,
        "built": RequestsBuilt,
        "outcome": RunEnded,
        "waiting": Waiting,
        "retry": Retry,
    },
)


def read_events(file: Path) -> Iterator[Event]:
    """Yield the events in a run's `events.jsonl`; lines that cannot be read are skipped.

    The last line may be cut short, and a secret may have been replaced in any.
    """
    if not file.exists():
        return
    for line in file.read_bytes().splitlines():
        with suppress(ChannelError):
            yield EVENTS.decode(line)


@dataclass(frozen=True)
class Import(Message):
    """Import the libraries of this runtime."""

    runtime: str


@dataclass(frozen=True)
class LogTo(Message):
    """Write standard output and error to `log`, after the content of `early`."""

    log: Path
    early: Path


@dataclass(frozen=True)
class Run(Message):
    """Perform the run whose plan is in the directory."""

    directory: Path


@dataclass(frozen=True)
class Check(Message):
    """Do what a run does before its engine starts, with local files only.

    `weights` says whether the model is on this machine.
    """

    directory: Path
    weights: bool


@dataclass(frozen=True)
class Decision(Message):
    """Whether to stop asking the questions of the task that was just looked at."""

    stop: bool


@dataclass(frozen=True)
class Recorded(Message):
    """The verdict of the last run is on disk, so its answers need not be kept for a retry.

    Those of a run that `stopped` early stay, for the run that continues it.
    """

    stopped: bool = False


@dataclass(frozen=True)
class Exit(Message):
    """Exit in an orderly way."""


Command = Import | LogTo | Run | Check | Decision | Recorded | Exit
COMMANDS: Codec[Command] = Codec(
    "command",
    {
        "import": Import,
        "log_to": LogTo,
        "run": Run,
        "check": Check,
        "decision": Decision,
        "recorded": Recorded,
        "exit": Exit,
    },
)
