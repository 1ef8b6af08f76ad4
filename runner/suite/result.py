"""suite.json: the result of one night of a suite. docs/suites.md describes its fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from runner.config.suite import ADVISORY, REQUIRED
from runner.errors import UserError
from runner.language import N_, gettext
from runner.rundir import RunDirectory, read_json, write_json

NAME = "suite.json"
# Raised when a field changes its meaning or goes away; new fields do not raise it.
FORMAT = 1
TIERS = {REQUIRED: N_("required"), ADVISORY: N_("advisory")}


@dataclass(frozen=True)
class Measured:
    """One metric of an entry. `p_holm` is adjusted for all tests of required entries."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    task: str
    metric: str
    filter: str
    verdict: str
    value: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    n: int
    whole: int | None
    baseline: float | None
    difference: float | None
    tolerated: tuple[float | None, float | None] | None
    rule: str
    p: float | None
    p_holm: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.task, self.metric, self.filter

    @property
    def name(self) -> str:
        """Return `canary acc` or `gsm8k exact_match,strict-match`, as lm-eval writes it."""
        return f"{self.task} {self.metric},{self.filter}".removesuffix(",none")


@dataclass(frozen=True)
class GoodNight:
    """The latest earlier night on which an entry PASSED, and the shown metric's value then.

    `change` is the value now minus the value then; None if the evaluation differs (`same` is
    false), because the values then answer different questions.
    """

    id: str
    directory: str
    started: float
    value: float
    same: bool
    change: float | None


@dataclass(frozen=True)
class EntryResult:
    """How an entry ended. `shown` is the metric of the matrix: the first one that decides.

    `missing` entries have no result. `directory` and `report` are relative to the suite's
    directory, empty if there are none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    name: str
    number: int
    model: str
    task: str
    tier: str
    verdict: str
    exit_status: int
    missing: bool
    reason: str
    overrides: tuple[str, ...]
    timeout: float | None
    shown: Measured | None
    metrics: tuple[Measured, ...]
    seconds: float | None
    directory: str
    report: str
    mlflow: str
    mlflow_run: str
    engine_fingerprint: str
    evaluation_fingerprint: str
    last_good: GoodNight | None = None

    @property
    def required(self) -> bool:
        return self.tier == REQUIRED

    @property
    def shown_tier(self) -> str:
        """Return the tier in the reader's language."""
        return gettext(TIERS[self.tier])


@dataclass(frozen=True)
class Pooled:
    """A test of all entries together: the same questions, now and in `against`.

    `drop` is how much worse the mean score is now, a share; `worse` and `better` are numbers of
    questions. `p` is one-sided.
    """

    against: str
    entries: tuple[str, ...]
    tasks: int
    questions: int
    drop: float
    worse: int
    better: int
    p: float
    level: float
    significant: bool


@dataclass(frozen=True)
class SuiteResult:
    """The result of a suite; `exit_status` and `verdict` are decided by its required entries."""

    format: int
    name: str
    id: str
    started: float
    ended: float
    verdict: str
    exit_status: int
    sentence: str
    entries: tuple[EntryResult, ...]
    pooled: tuple[Pooled, ...] = ()
    joint: tuple[str, ...] = ()
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    engine_starts: int = 0
    engine_starts_saved: int = 0
    command: str = ""

    @property
    def required(self) -> tuple[EntryResult, ...]:
        return tuple(entry for entry in self.entries if entry.required)

    @property
    def advisory(self) -> tuple[EntryResult, ...]:
        return tuple(entry for entry in self.entries if not entry.required)


def read(directory: Path) -> SuiteResult:
    """Read suite.json.

    Raises:
        UserError: if there is none, or it can't be read.
    """
    file = directory / NAME
    try:
        found: SuiteResult = read_json(file, SuiteResult)
    except FileNotFoundError:
        raise UserError(f"{directory}: not a finished suite ({NAME} is missing)") from None
    except ValueError as error:
        raise UserError(
            f"{file}: truncated, or written by another version of the runner"
        ) from error
    return found


def without_runs(directory: Path) -> bool:
    """Return whether run directories of a finished suite were deleted.

    Judged again, entries that had a result would be missing.
    """
    if not (directory / NAME).is_file():
        return False
    return any(
        not RunDirectory(directory / entry.directory).holds_a_run
        for entry in read(directory).entries
        if entry.directory and not entry.missing
    )


def write(directory: Path, result: SuiteResult) -> None:
    write_json(directory / NAME, result)
