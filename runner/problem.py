"""A problem that stops a run, its possible fixes, and the switch that overrides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from runner.config.overrides import in_yaml
from runner.config.schema import EngineConfig, RunConfig

# Switches of `engine`, each with what it overrules: what rests on an estimate, or on what this
# runner knows of other software, may be wrong.
UNTESTED, UNSUPPORTED = "allow_untested", "allow_unsupported"
UNHEALTHY, OVERSIZED = "allow_unhealthy", "allow_oversized"


@dataclass(frozen=True)
class Cure:
    """Settings that would fix a problem: dotted keys and their values."""

    changes: Mapping[str, Any]
    # Said after it: " or more".
    more: str = ""

    def __str__(self) -> str:
        return (
            " ".join(f"{key}={in_yaml(value)}" for key, value in self.changes.items()) + self.more
        )


@dataclass(frozen=True)
class Problem:
    """A problem, starting with its key; it cannot be overridden if `switches` is empty."""

    what: str
    # Of those that change the same keys, the first that helps is told.
    cures: tuple[Cure, ...] = ()
    # What to do where none of them helps.
    otherwise: str = ""
    switches: tuple[str, ...] = ()

    def __str__(self) -> str:
        advice = [f"use {', or '.join(map(str, self.cures))}"] if self.cures else []
        if self.otherwise and not advice:
            advice.append(self.otherwise)
        if self.switches:
            advice.append(f"run anyway with {self.overruled_by}")
        return self.what + (f"; {', or '.join(advice)}" if advice else "")

    @property
    def overruled_by(self) -> str:
        return " ".join(f"engine.{switch}=true" for switch in self.switches)

    def allowed(self, engine: EngineConfig) -> bool:
        """Return whether the user has overridden it."""
        return bool(self.switches) and all(getattr(engine, switch) for switch in self.switches)


Judge = Callable[[RunConfig], Sequence[Problem]]


def with_cures_that_help(config: RunConfig, judge: Judge) -> list[Problem]:
    """Return all problems of a configuration, each with only those fixes that cause no new one.

    `judge` names the problems of any configuration, by what has been read of this machine.
    """
    found = judge(config)
    standing = _refused(config, found)

    def helps(problem: Problem, cure: Cure) -> bool:
        tried = changed(config, cure.changes)
        left = _refused(tried, judge(tried))
        return left <= standing - {problem.what}

    def helpful(problem: Problem) -> tuple[Cure, ...]:
        told: dict[tuple[str, ...], Cure] = {}
        for cure in problem.cures:
            keys = tuple(cure.changes)
            if keys not in told and helps(problem, cure):
                told[keys] = cure
        return tuple(told.values())

    return [replace(problem, cures=helpful(problem)) for problem in found]


def _refused(config: RunConfig, problems: Sequence[Problem]) -> set[str]:
    return {problem.what for problem in problems if not problem.allowed(config.engine)}


def changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Return a copy of the configuration with dotted keys set, as on the command line."""
    tried = deepcopy(config)
    for key, value in changes.items():
        *path, name = key.split(".")
        place: Any = tried
        for part in path:
            place = place.setdefault(part, {}) if isinstance(place, dict) else getattr(place, part)
        if isinstance(place, dict):
            place[name] = value
        else:
            setattr(place, name, value)
    return tried


def smaller_tp(config: RunConfig) -> tuple[Cure, ...]:
    """Return tensor parallel sizes for fewer devices, the largest first."""
    tp = config.parallelism.tp
    sizes = (size for size in range(tp - 1, 0, -1) if tp % size == 0)
    return tuple(Cure({"parallelism.tp": size}) for size in sizes)
