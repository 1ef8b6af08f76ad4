"""A configuration as a run recorded it, to be run again with changes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner.config import loading, places
from runner.config.anchoring import PATHS, anchor, anchored
from runner.config.command_line import parsed
from runner.config.composed import Composed, command
from runner.config.composition import compose
from runner.config.overrides import in_yaml, quoted
from runner.config.schema import RunConfig
from runner.config.usage import explain, schema_keys
from runner.errors import UserError
from runner.rundir import RunDirectory

# The value of a key that one configuration lacks, in mappings such as engine.extra.
ABSENT: Final = object()
# Text that Hydra and the shell read as itself.
PLAIN = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z/][\w./@-]*", re.IGNORECASE)
# What `pip install` calls `python -m runner`.
SCRIPT = "accuracy-runner"
SCHEMA = schema_keys(RunConfig)
WEIGHTS = "model.pretrained"


@dataclass(frozen=True)
class Recorded:
    """The resolved configuration of a run, and the command that asked for it.

    `words` is the call of `python -m runner`, which is repeated in `place`. They are empty for a
    run that did not record its command, and `words` for one that another command started. Relative
    paths in `tree` that exist in `place` are absolute; the words are as they were typed.
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
        move, _, typed = files.command.read_text(encoding="utf-8").partition("\n")
        _, place = shlex.split(move)
        words = tuple(shlex.split(typed))
    except (OSError, ValueError):
        return Recorded(tree)
    anchor(tree, Path(place))
    return Recorded(tree, words if _start(words) else (), place)


def _start(words: Sequence[str]) -> int:
    """The number of words before the runner's own arguments; 0 for another command."""
    for number, pair in enumerate(pairwise(words)):
        if pair == ("-m", "runner"):
            return number + 2
    scripts = (number for number, each in enumerate(words[:2]) if Path(each).name == SCRIPT)
    return next(scripts, -1) + 1


def recomposed(recorded: Recorded, overrides: Sequence[str]) -> Recorded:
    """The recorded command with more overrides, composed again.

    A path in the overrides is relative to the working directory, one in the command to its own.

    Raises:
        UserError: if the run did not record its command, or the overrides are invalid.
    """
    if not recorded.words:
        raise UserError(
            "the run's directory has no command of python -m runner (command.txt), so nothing can "
            "be added to it"
        )
    words = (*recorded.words, *map(_from_here, overrides))
    return Recorded(_composed(words, recorded.place), words, recorded.place)


def _from_here(override: str) -> str:
    key, _, value = override.partition("=")
    found = anchored(value, Path.cwd()) if key.lstrip("+") in PATHS else value
    return override if found == value else f"{key}={_spelled(found)}"


def _composed(words: Sequence[str], place: str) -> DictConfig:
    """The resolved configuration that a command composes in a directory.

    Raises:
        UserError: if it is invalid.
    """
    options = parsed(words[_start(words) :])
    own = options["config_dir"]
    tree = compose(
        options["overrides"],
        own and Path(place, Path(own).expanduser()),
        options["config_name"] or places.CONFIG_NAME,
    )
    try:
        plain = OmegaConf.create(OmegaConf.to_container(tree, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(plain, DictConfig)
    anchor(plain, Path(place))
    return plain


def again(recorded: Recorded, changes: Mapping[str, Any]) -> tuple[RunConfig, Composed]:
    """Return the configuration with other values for some dotted keys, checked like a new one.

    The value ABSENT removes a key.

    Raises:
        UserError: for values that the schema or the rules reject.
    """
    tree = _changed(recorded.tree, changes)
    composed = Composed(OmegaConf.to_yaml(tree), call(recorded, changes))
    loading.register()
    return loading.load(tree), composed


def _changed(tree: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """A copy of the configuration with other values."""
    changed = tree.copy()
    try:
        for key, value in changes.items():
            if value is not ABSENT:
                OmegaConf.update(changed, key, value, merge=False, force_add=True)
                continue
            above, _, name = key.rpartition(".")
            inside = OmegaConf.select(changed, above) if above else changed
            if isinstance(inside, DictConfig):
                inside.pop(name, None)
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={value}: cannot be set ({error})") from error
    return changed


def call(recorded: Recorded, changes: Mapping[str, Any]) -> str:
    """Return the shell commands that run the configuration with these changes.

    Empty for a run without a command.

    Raises:
        UserError: for a value that can't be set.
    """
    if not recorded.words:
        return ""
    start = _start(recorded.words)
    removed = [each for each in recorded.words[start:] if _below(_key(each), changes)]
    kept = [each for each in recorded.words[start:] if each not in removed]
    values = {key: value for key, value in changes.items() if value is not ABSENT}
    words = [*recorded.words[:start], *kept, *_weights_file(kept, changes), *overrides(values)]
    try:
        words += _corrections(recorded, changes, words)
    except UserError:  # such as a --config-dir that this machine lacks
        words += [
            f"~{key}"
            for key, value in changes.items()
            if value is ABSENT
            and recorded.value(key) is not ABSENT
            and not any(_below(_key(each), {key}) for each in removed)
        ]
    return command(words, recorded.place or None)


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _below(key: str, keys: Iterable[str]) -> bool:
    """Whether a key is one of the keys, or below one."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def _weights_file(words: Sequence[str], changes: Mapping[str, Any]) -> list[str]:
    """The model file that the run used by default; a command with other weights has to name it."""
    options = parsed(words)
    chosen = [_key(each) for each in options["overrides"]]
    if WEIGHTS not in (*chosen, *changes) or "model" in chosen or options["config_name"]:
        return []
    primary = OmegaConf.load(places.config_directory() / f"{places.CONFIG_NAME}.yaml")
    return [f"model={each.model}" for each in primary.defaults if "model" in each]


def overrides(changes: Mapping[str, Any]) -> list[str]:
    """Return the changes as overrides for the command line.

    A section is set by its keys, because Hydra takes no mapping for one.
    """
    found = []
    for key, value in changes.items():
        if value is ABSENT:
            found.append(f"~{key}")
        elif isinstance(value, Mapping) and any(each.startswith(f"{key}.") for each in SCHEMA):
            found += [f"{name}={_spelled(each)}" for name, each in _leaves(value, f"{key}.")]
        else:
            found.append(f"{key}={_spelled(value)}")
    return found


def _corrections(
    recorded: Recorded, changes: Mapping[str, Any], words: Sequence[str]
) -> Iterator[str]:
    """Overrides for what the words still compose to otherwise.

    A setting may follow another one, and a file may set what was only taken from the command line.
    What the run's own command composes to otherwise now, such as paths with the time, is left.
    """
    wanted = Recorded(_changed(recorded.tree, changes)).flat()
    found = Recorded(_composed(words, recorded.place)).flat()
    own = recorded.flat()
    before = Recorded(_composed(recorded.words, recorded.place)).flat()
    moved = [
        key
        for key in dict.fromkeys([*wanted, *found])
        if wanted.get(key, ABSENT) != found.get(key, ABSENT)
        and (_below(key, changes) or own.get(key, ABSENT) == before.get(key, ABSENT))
    ]
    yield from dict.fromkeys(f"~{_branch(key, wanted)}" for key in moved if key not in wanted)
    for key in moved:
        if wanted.get(key, MISSING) != MISSING:
            yield f"{key}={_spelled(wanted[key])}"


def _branch(key: str, wanted: Iterable[str]) -> str:
    """The highest mapping above a key that holds no wanted key, and that a user filled."""
    above = key.rpartition(".")[0]
    if not above or above in SCHEMA or any(_below(each, [above]) for each in wanted):
        return key
    return _branch(above, wanted)


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
