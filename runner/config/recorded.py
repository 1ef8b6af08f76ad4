"""A configuration as a run recorded it, to be run again with changes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner.config import loading
from runner.config.composed import Composed, command
from runner.config.overrides import in_yaml, quoted
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.rundir import RunDirectory

# The value of a key that one configuration lacks, in mappings such as engine.extra.
ABSENT: Final = object()
# Text that Hydra and the shell read as itself.
PLAIN = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z/][\w./@-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Recorded:
    """The resolved configuration of a run, and the command that asked for it.

    `words` is the call, which is repeated in `place`. Both are empty for a run that did not record
    its command.
    """

    tree: DictConfig
    words: tuple[str, ...] = ()
    place: str = ""

    def flat(self) -> dict[str, Any]:
        """Dotted keys and plain values; keys that the run did not record have their defaults.

        Empty mappings are left out. Keys that only an older version knew stay.
        """
        defaults = OmegaConf.to_container(OmegaConf.structured(RunConfig))
        whole = OmegaConf.merge(OmegaConf.create(defaults), self.tree)
        plain = OmegaConf.to_container(whole, resolve=True, throw_on_missing=False)
        assert isinstance(plain, dict)
        return dict(_leaves(plain, ""))

    def value(self, key: str) -> Any:
        """The value of a dotted key as plain Python, or ABSENT."""
        found = OmegaConf.select(self.tree, key, default=ABSENT)
        return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def _leaves(value: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        name = f"{above}{key}"
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{name}.")
        else:
            yield name, inner


def read(directory: Path) -> Recorded:
    """Read the configuration in a run directory.

    Raises:
        UserError: if there is none, or it can't be read.
    """
    files = RunDirectory(directory)
    try:
        tree = OmegaConf.load(files.config)
    except FileNotFoundError:
        raise UserError(
            f"{directory}: has no config.yaml, so its configuration is unknown"
        ) from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{files.config}: cannot be read ({error})") from error
    if not isinstance(tree, DictConfig):
        raise UserError(f"{files.config}: not the configuration of a run")
    try:
        lines = files.command.read_text(encoding="utf-8").splitlines()
        place, words = (shlex.split(line) for line in lines)
    except (OSError, ValueError):
        return Recorded(tree)
    return Recorded(tree, tuple(words), place[-1])


def again(recorded: Recorded, changes: Mapping[str, Any]) -> tuple[RunConfig, Composed]:
    """Return the configuration with other values for some dotted keys, checked like a new one.

    The value ABSENT removes a key.

    Raises:
        UserError: for values that the schema or the rules reject.
    """
    tree = recorded.tree.copy()
    try:
        for key, value in changes.items():
            if value is ABSENT:
                above, _, name = key.rpartition(".")
                OmegaConf.select(tree, above).pop(name, None)
            else:
                OmegaConf.update(tree, key, value, merge=False, force_add=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={value}: cannot be set ({error})") from error
    composed = Composed(OmegaConf.to_yaml(tree), call(recorded, changes))
    loading.register()
    return loading.load(tree), composed


def call(recorded: Recorded, changes: Mapping[str, Any]) -> str:
    """Return the shell commands that run the configuration with these changes."""
    words = recorded.words or ("python", "-m", "runner")
    kept = [each for each in words if each.lstrip("+~").partition("=")[0] not in changes]
    return command([*kept, *overrides(changes)], recorded.place or None)


def overrides(changes: Mapping[str, Any]) -> list[str]:
    """Return the changes as overrides for the command line."""
    return [
        f"~{key}" if value is ABSENT else f"{key}={_spelled(value)}"
        for key, value in changes.items()
    ]


def _spelled(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else quoted(value)
    if isinstance(value, Mapping):
        inside = ",".join(f"{key}:{_spelled(each)}" for key, each in value.items())
        return f"{{{inside}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_spelled, value))}]"
    return in_yaml(value)
