"""Hydra's and OmegaConf's complaints as one message: the key, and what is allowed."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException, ValidationError

from runner.config.schema import RunConfig

# Choices of Hydra's plugins (docs/searches.md), and the extra of this package that brings them.
EXTRAS = {
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/sweeper=optuna": "search",
}


def explain(error: Exception, where: str = "") -> str:
    """One message, no traceback: what is wrong, at which key (below `where`), what is allowed."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_choice(error)
    cause = _first_omegaconf_error(error)
    if cause is not None:
        return _schema_error(cause, where)
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        said = " ".join(text.split())
        return f"{error.override}: not an override that Hydra can read; write key=value ({said})"
    if isinstance(error, ConfigCompositionException) and "No match in the defaults list" in text:
        group = re.search(r"override '([^']+)'", text)
        return _unknown_key(group.group(1) if group else text, ())
    return text


def is_usage_error(error: BaseException) -> bool:
    """True for what a user typed; anything else is ours and keeps its traceback."""
    return isinstance(error, CompactHydraException | OmegaConfBaseException)


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """` Did you mean 'x'?` where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    options = tuple(sorted(error.options or ()))
    if not group:
        return str(error)
    if extra := EXTRAS.get(f"{group}={name}"):
        return f"{group}={name}: not installed: pip install 'ascend-accuracy-runner[{extra}]'"
    return f"{group}={name}: no such choice.{suggestion(name, options)} Known: {', '.join(options)}"


def _first_omegaconf_error(error: BaseException) -> OmegaConfBaseException | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OmegaConfBaseException):
            return seen
        seen = seen.__cause__
    return None


def _schema_error(error: OmegaConfBaseException, where: str) -> str:
    key = ".".join(part for part in (where, str(error.full_key or error.key or "")) if part)
    if isinstance(error, ValidationError) and error.parent_node is not None:
        return f"{key}: {_first_line(error)}"
    if "not in" in str(error):
        return _unknown_key(key, _siblings(error))
    return f"{key}: {_first_line(error)}" if key else _first_line(error)


def _unknown_key(key: str, known: tuple[str, ...]) -> str:
    if not known:
        known = schema_keys(RunConfig)
        return f"{key}: no such key.{suggestion(key, known)} `python -m runner --help` shows them"
    parent, _, name = key.rpartition(".")
    near = suggestion(name, known)
    return f"{key}: no such key.{near} {parent or 'The top level'} knows: {', '.join(known)}"


def _siblings(error: OmegaConfBaseException) -> tuple[str, ...]:
    kind: Any = error.object_type
    if kind is not None and is_dataclass(kind):
        return tuple(sorted(item.name for item in fields(kind)))
    return ()


def schema_keys(schema: type, prefix: str = "") -> tuple[str, ...]:
    """Every dotted key of a dataclass schema, groups included."""
    hints = get_type_hints(schema)
    keys: list[str] = []
    for item in fields(schema):
        keys.append(prefix + item.name)
        if is_dataclass(hints[item.name]):
            keys.extend(schema_keys(hints[item.name], f"{prefix}{item.name}."))
    return tuple(keys)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
