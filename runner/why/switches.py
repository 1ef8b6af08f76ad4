"""The settings that differ between two runs, as switches that can be set one by one."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import OmegaConf

from runner import variables
from runner.config.overrides import in_yaml
from runner.config.recorded import ABSENT, Recorded, overrides
from runner.environment import Environment, telling_variables

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
VARIABLES, PYTHON = "engine.env", "engine.python"


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

    `asked`, `environment` and `versions` (those that come with `engine.python`) are lines for the
    reader. `base` has the variables that the good run inherited and this process does not have, as
    settings. `inherited` are variables of this process that the runs must not inherit.
    """

    switches: tuple[Switch, ...]
    asked: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    base: dict[str, Any] = field(default_factory=dict)
    inherited: tuple[str, ...] = ()


def differences(
    good: Recorded,
    bad: Recorded,
    environments: tuple[Environment | None, Environment | None],
    shell: Mapping[str, str] | None = None,
) -> Differences:
    """Compare the recorded configurations and environments of two runs.

    `shell` has the variables of this process that can change a result. Switches are ordered by
    their cost.
    """
    ours, theirs = good.flat(), bad.flat()
    keys = dict.fromkeys([*ours, *theirs])
    changes = [
        Change(key, ours.get(key, ABSENT), theirs.get(key, ABSENT))
        for key in keys
        if ours.get(key, ABSENT) != theirs.get(key, ABSENT)
    ]
    settable = [
        each for each in changes if _is_switch(each.key) and not _below(each.key, (VARIABLES,))
    ]
    found, base, inherited = _variables(ours, theirs, environments, shell or {})
    installed = tuple(_installed(environments))
    python = any(each.key == PYTHON for each in settable)
    return Differences(
        switches=_grouped([*settable, *found]),
        asked=tuple(str(each) for each in changes if _below(each.key, ASKED)),
        environment=tuple(line for line, ours in installed if not (python and ours)),
        versions=tuple(line for line, ours in installed if python and ours),
        base=base,
        inherited=inherited,
    )


def _is_switch(key: str) -> bool:
    section = key.partition(".")[0]
    return section in OF_ENGINE and not _below(key, (*ASIDE, *ASKED))


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
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    environments: tuple[Environment | None, Environment | None],
    shell: Mapping[str, str],
) -> tuple[list[Change], dict[str, Any], tuple[str, ...]]:
    """The variables whose effective values differ; `Differences.base` and `inherited`.

    The effective value is that of engine.env, else the one that the run inherited.
    """
    one, other = (
        each.moving if each is not None and None not in environments else {}
        for each in environments
    )
    if None in environments:
        shell = {}  # what the runs inherited is not known
    good, bad = one | _set(ours), other | _set(theirs)
    names = dict.fromkeys([*one, *other, *_set(ours), *_set(theirs), *shell])
    changes = [
        Change(f"{VARIABLES}.{name}", good.get(name, ABSENT), bad.get(name, ABSENT))
        for name in names
        if variables.may_move(name) and good.get(name) != bad.get(name)
    ]
    differing = {each.key.removeprefix(f"{VARIABLES}.") for each in changes}
    apart = [
        name
        for name in dict.fromkeys([*one, *other, *shell])
        if name in differing or good.get(name) != shell.get(name)
    ]
    base = {f"{VARIABLES}.{name}": good[name] for name in apart if name in good}
    return changes, base, tuple(name for name in apart if name in shell)


def _set(flat: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a configuration sets."""
    start = f"{VARIABLES}."
    return {key.removeprefix(start): str(each) for key, each in flat.items() if start in key}


def _installed(
    environments: tuple[Environment | None, Environment | None],
) -> Iterator[tuple[str, bool]]:
    """What differs in the machine and its software, and whether engine.python decides about it."""
    one, other = environments
    if one is None or other is None:
        return
    for title, before, after, ours in (
        ("", one.packages, other.packages, True),
        ("commit of ", one.commits, other.commits, True),
        ("", one.toolkit, other.toolkit, False),
        ("edited code of ", one.edited, other.edited, True),
        ("", {"hardware": one.hardware}, {"hardware": other.hardware}, False),
    ):
        for name in dict.fromkeys([*before, *after]):
            values = [each.get(name, ABSENT) for each in (before, after)]
            if values[0] != values[1]:
                yield f"{title}{name}: {_said(values[0])} → {_said(values[1])}", ours


def grounded(good: Recorded, base: Mapping[str, Any]) -> Recorded:
    """The good run's configuration with the variables that the run inherited."""
    tree = good.tree.copy()
    for key, value in base.items():
        OmegaConf.update(tree, key, value, force_add=True)
    return replace(good, tree=tree, words=(*good.words, *overrides(base)) if good.words else ())


def shell_variables() -> dict[str, str]:
    """The variables of this process that can change a result."""
    return variables.moving(variables.switches(telling_variables(os.environ)))


def set_aside(inherited: tuple[str, ...]) -> None:
    """Remove variables from this process: the runs get them by engine.env, or not at all."""
    for name in inherited:
        os.environ.pop(name, None)


def _said(value: Any) -> str:
    return "not set" if value is ABSENT else in_yaml(value)
