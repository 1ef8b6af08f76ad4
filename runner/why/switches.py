"""The settings that differ between two runs, as switches that can be set one by one."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner import variables
from runner.config.overrides import in_yaml
from runner.config.recorded import ABSENT, Recorded
from runner.environment import Environment

# Settings that move together: alone, one of them is rejected or means something else.
TOGETHER = (
    ("parallelism.tp", "parallelism.dp", "parallelism.ep"),
    (
        *("model.pretrained", "model.revision", "model.hub", "model.modelscope"),
        *("model.trust_remote_code", "model.tokenizer", "engine.quantization"),
    ),
    ("engine.runtime", "engine.platform", "model.backend"),
)
WEIGHTS = "model.pretrained"
# Settings of a running engine.
WITHOUT_RESTART = ("engine.window",)
# What is asked. A replay gives the questions of the good run to both, so these can't be searched.
ASKED = (
    *("task.names", "task.num_fewshot", "task.apply_chat_template", "task.fewshot_as_multiturn"),
    *("task.system_instruction", "task.gen_kwargs", "task.samples", "task.max_gen_toks"),
    *("task.batch_size", "task.seed", "model.ask", "model.max_images", "model.enable_thinking"),
    *("model.think_end_token", "model.chat_template_args"),
)
# Sections with settings of the engine, and the keys in them that can't change a number.
OF_ENGINE = ("engine", "parallelism", "model")
ASIDE = (
    *("engine.allow_untested", "engine.allow_unsupported", "engine.allow_unhealthy"),
    *("engine.allow_oversized", "engine.endpoint", "model.name", "model.needs_remote_code"),
    *("model.hardware", "model.source", "model.baselines", "model.by_series", "model.serve"),
)
VARIABLES = "engine.env"


class Cost(enum.IntEnum):
    """What a change costs, cheapest first."""

    RUNNING = 0
    RESTART = 1
    WEIGHTS = 2


@dataclass(frozen=True)
class Change:
    """A key whose values differ. ABSENT is the value of a key that a run lacks."""

    key: str
    good: Any
    bad: Any

    def __str__(self) -> str:
        return f"{self.key}: {_said(self.good)} → {_said(self.bad)}"


@dataclass(frozen=True)
class Switch:
    """Changes that are made together."""

    changes: tuple[Change, ...]
    cost: Cost

    @property
    def name(self) -> str:
        """The keys, without the sections that they share."""
        return " + ".join(each.key for each in self.changes)

    @property
    def bad(self) -> dict[str, Any]:
        """The bad run's values, by key."""
        return {each.key: each.bad for each in self.changes}


@dataclass(frozen=True)
class Differences:
    """How two runs differ: what can be switched, what changes the questions, and the rest.

    `asked` and `environment` are lines for the reader. `inherited` are the variables that a switch
    sets, which must not be inherited from the shell as well.
    """

    switches: tuple[Switch, ...]
    asked: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()


def differences(
    good: Recorded, bad: Recorded, environments: tuple[Environment | None, Environment | None]
) -> Differences:
    """Compare the recorded configurations and environments of two runs.

    Switches are ordered by their cost.
    """
    ours, theirs = good.flat(), bad.flat()
    keys = dict.fromkeys([*ours, *theirs])
    changes = [
        Change(key, ours.get(key, ABSENT), theirs.get(key, ABSENT))
        for key in keys
        if ours.get(key, ABSENT) != theirs.get(key, ABSENT)
    ]
    asked = [each for each in changes if _below(each.key, ASKED)]
    settable = [each for each in changes if _is_switch(each.key)]
    exported = _variables(environments, {each.key for each in settable})
    return Differences(
        switches=_grouped([*settable, *exported]),
        asked=tuple(map(str, asked)),
        environment=tuple(_installed(environments)),
        inherited=tuple(each.key.removeprefix(f"{VARIABLES}.") for each in exported),
    )


def _is_switch(key: str) -> bool:
    section = key.partition(".")[0]
    name = key.removeprefix(f"{VARIABLES}.")
    return (
        section in OF_ENGINE
        and not _below(key, ASIDE)
        and not _below(key, ASKED)
        and (name == key or variables.may_move(name))
    )


def _below(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def _grouped(changes: list[Change]) -> tuple[Switch, ...]:
    groups: dict[str, list[Change]] = {}
    for each in changes:
        group = next((keys[0] for keys in TOGETHER if each.key in keys), each.key)
        groups.setdefault(group, []).append(each)
    found = [Switch(tuple(group), _cost(group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda each: each.cost))


def _cost(changes: list[Change]) -> Cost:
    keys = {each.key for each in changes}
    if WEIGHTS in keys:
        return Cost.WEIGHTS
    return Cost.RUNNING if keys <= set(WITHOUT_RESTART) else Cost.RESTART


def _variables(
    environments: tuple[Environment | None, Environment | None], known: set[str]
) -> list[Change]:
    """Variables of the shell that can change a result; a worker gets them by engine.env."""
    one, other = (each.moving if each is not None else {} for each in environments)
    if None in environments:
        return []
    return [
        Change(key, one.get(name, ABSENT), other.get(name, ABSENT))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name) and (key := f"{VARIABLES}.{name}") not in known
    ]


def _installed(environments: tuple[Environment | None, Environment | None]) -> Iterator[str]:
    """What differs in the machine and its software, which no setting can change."""
    one, other = environments
    if one is None or other is None:
        return
    for title, before, after in (
        ("", one.packages, other.packages),
        ("commit of ", one.commits, other.commits),
        ("", one.toolkit, other.toolkit),
        ("edited code of ", one.edited, other.edited),
        ("", {"hardware": one.hardware}, {"hardware": other.hardware}),
    ):
        for name in dict.fromkeys([*before, *after]):
            values = [each.get(name, ABSENT) for each in (before, after)]
            if values[0] != values[1]:
                yield f"{title}{name}: {_said(values[0])} → {_said(values[1])}"


def set_aside(inherited: tuple[str, ...]) -> None:
    """Remove variables from this process: the runs get them by engine.env, or not at all."""
    for name in inherited:
        os.environ.pop(name, None)


def _said(value: Any) -> str:
    return "not set" if value is ABSENT else in_yaml(value)
