"""Messages between the runner and the process that imports MLflow: requests and their answers.

The sender answers each request, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from runner.channel.lines import Codec, Message

Result = str | tuple[str, ...] | None
R = TypeVar("R", bound=Result, covariant=True)


class Request(Message, Generic[R]):
    """Base class of requests; `R` is the type of the result."""


@dataclass(frozen=True)
class OpenStore(Request[None]):
    """Create the store if it is missing, and mark the runs that a kill left running."""

    uri: str
    experiment: str


@dataclass(frozen=True)
class SendRun(Request[None]):
    """Upload the run in the directory, and write there where it is now."""

    directory: Path


@dataclass(frozen=True)
class ShareView(Request[str]):
    """Store a view with the columns of a sweep's table; the result is its key."""

    uri: str
    experiment_id: str
    sweep_id: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class SendSummary(Request[tuple[str, ...]]):
    """Create or update the run with a sweep's comparison or a suite's result.

    The result are the ids of its experiment, which is made if it is missing, and of the run. `mark`
    is the tag that holds the `key`, by which the run is found again. `files` are paths on disk and
    the folders they are shown in.
    """

    uri: str
    experiment: str
    mark: str
    key: str
    name: str
    metrics: dict[str, float]
    tags: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class FindAlias(Request[str]):
    """Find the run with the alias; the result is its id.

    If no run has it, the request is refused, or the result is empty if it is not `required`.
    """

    uri: str
    name: str
    model: str
    task: str
    required: bool = True


@dataclass(frozen=True)
class GiveAlias(Request[tuple[str, ...]]):
    """Give the run an alias; the result is the ids of the runs that lose it."""

    uri: str
    run_id: str
    name: str
    model: str
    tasks: tuple[str, ...]
    since: str
    # Runs to store as the run's noise runs; if there are none, those stored before stay.
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindNoise(Request[tuple[str, ...]]):
    """Find the noise runs that are stored with a run; the result is their ids."""

    uri: str
    run_id: str


@dataclass(frozen=True)
class FindPeers(Request[tuple[str, ...]]):
    """Find the runs of the same stack and evaluation that a run is the best of.

    `metrics` are names of MLflow metrics, and whether a higher value is better. The result is the
    ids of the runs, the run itself first; empty if it is not the best of three or more.
    """

    uri: str
    run_id: str
    metrics: dict[str, bool]


@dataclass(frozen=True)
class Download(Request[tuple[str, ...]]):
    """Copy those files of a run that exist to the directory; the result is their names.

    The request is refused if one of the `needed` files is missing.
    """

    uri: str
    run_id: str
    directory: Path
    needed: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class ListRuns(Request[tuple[str, ...]]):
    """List a page of the store's runs that started at or after a time.

    The result is the token of the next page (empty after the last), and a JSON object for each run.
    """

    uri: str
    since_ms: int = 0
    token: str = ""


REQUESTS: Codec[Request[Result]] = Codec(
    "request",
    {
        "open_store": OpenStore,
        "send_run": SendRun,
        "share_view": ShareView,
        "send_summary": SendSummary,
        "find_alias": FindAlias,
        "give_alias": GiveAlias,
        "find_noise": FindNoise,
        "find_peers": FindPeers,
        "download": Download,
        "list_runs": ListRuns,
    },
)


@dataclass(frozen=True)
class Done(Message):
    """The request has been fulfilled."""

    result: Result = None


@dataclass(frozen=True)
class Refused(Message):
    """The request has a mistake that is the user's to correct."""

    problems: tuple[str, ...]


@dataclass(frozen=True)
class Failed(Message):
    """The store, the network or the disk has failed."""

    reason: str


Answer = Done | Refused | Failed
ANSWERS: Codec[Answer] = Codec("answer", {"done": Done, "refused": Refused, "failed": Failed})
