"""The schema of `suite`: entries that are run together, and what each must have."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from runner.config.notify import NotifyConfig

REQUIRED, ADVISORY = "required", "advisory"
TIERS = (REQUIRED, ADVISORY)
# Names of suites and entries stand in paths, overrides and links.
NAME = re.compile(r"\w[\w.@-]*")
NAMED = "may have letters, digits and _ . @ -, and starts with a letter or a digit"
# Keys that an entry has of its own, or that belong to the whole suite.
NOT_AN_OVERRIDE = re.compile(
    r"[+~]*(model|task|lang|output_dir|preflight_only|(suite|sweep|hydra)([./].*)?)="
)


@dataclass
class SuiteEntryConfig:
    """One entry of a suite: a model, a task, and how they are run."""

    model: str = MISSING
    """Choice of the group model."""
    task: str = MISSING
    """Choice of the group task."""
    tier: str = REQUIRED
    """required: decides the suite's exit status; advisory: is only shown."""
    overrides: list[str] = field(default_factory=list)
    """Further settings, as on the command line: [parallelism.tp=2]."""
    timeout: float | None = None
    """Seconds for all attempts of the entry together (limits.run_s); null: limits.run_s."""


@dataclass
class SuiteConfig:
    """Entries that are run and judged together."""

    name: str | None = None
    """Name of the suite, under which its nights are found; null: no suite."""
    # `entries_of` makes it dict[name, SuiteEntryConfig].
    entries: dict[str, Any] = field(default_factory=dict)
    """Entries by name: {gsm8k: {model: qwen3_8b, task: gsm8k}}."""
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    """Messages about the result."""
    entry: str | None = None
    """Name of the entry that a run is; set by the runner."""
    tier: str | None = None
    """Tier of the entry that a run is; set by the runner."""


def problems(name: str | None, entries: Mapping[str, SuiteEntryConfig]) -> list[str]:
    """Return a line for each violated rule of a suite with these typed entries."""
    found = []
    if not name:
        found.append("suite.name: a value is required: the suite's nights are found by it")
    elif not NAME.fullmatch(name):
        found.append(f"suite.name={name}: {NAMED}")
    if not entries:
        found.append(
            "suite.entries: a suite needs at least one entry: "
            "suite.entries.NAME={model: MODEL, task: TASK}"
        )
    seen: dict[tuple[object, ...], str] = {}
    for key, entry in entries.items():
        where = f"suite.entries.{key}"
        if not NAME.fullmatch(str(key)):
            found.append(f"{where}: the name {NAMED}")
        if entry.tier not in TIERS:
            found.append(f"{where}.tier={entry.tier}: must be one of {', '.join(TIERS)}")
        if entry.timeout is not None and not (math.isfinite(entry.timeout) and entry.timeout > 0):
            found.append(f"{where}.timeout={entry.timeout}: must be a number of seconds above 0")
        for override in entry.overrides:
            if NOT_AN_OVERRIDE.match(override):
                found.append(
                    f"{where}.overrides: {override}: not a setting of an entry; model and task "
                    "have keys of their own, and the others belong to the whole suite"
                )
        run = (entry.model, entry.task, tuple(sorted(entry.overrides)))
        if run in seen:
            found.append(
                f"{where}: the same model, task and overrides as suite.entries.{seen[run]}; "
                "remove one of them"
            )
        seen.setdefault(run, key)
    return found
