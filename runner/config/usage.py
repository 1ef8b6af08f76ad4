"""Turn Hydra's and OmegaConf's errors into one message with the key and the allowed values."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
    ValidationError,
)

from runner.config import places
from runner.config.model_choice import advice
from runner.config.schema import RunConfig

# Choices of Hydra's plugins (docs/searches.md), and the extra of this package that brings them.
EXTRAS = {
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/sweeper=optuna": "search",
}
# What others call our settings, by the last part of the key; and our choices.
OTHER_NAMES = {
    "tensor_parallel_size": "parallelism.tp",
    "pipeline_parallel_size": "parallelism.pp",
    "data_parallel_size": "parallelism.dp",
    "enable_expert_parallel": "parallelism.ep",
    "model_name": "model.pretrained",
    "tasks": "task.names",
    "seed": "task.seed",
    "rtol": "verdict.rtol",
    "margin": "verdict.margin",
    "dir": "output_dir",
}
# Where what is no choice of a group may belong.
INSTEAD = {
    "task": "for an lm-eval task, use task.names=[{}]",
    "tracking": "for an address, use tracking.uri={}",
    "source": "for a directory, use source=local source.dir={}",
}
OTHER_CHOICES = {"engine=npu": "ascend", "engine=gpu": "cuda", "engine=hf": "transformers"}

# What may be missing, as it is written.
EXAMPLES = {
    "task.names": "task.names=[gsm8k]",
    "model.pretrained": "model.pretrained=ORG/NAME, or a directory",
}


def explain(error: Exception, where: str = "") -> str:
    """Return one message: what is wrong, at which key (below `where`), and what is allowed."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: not valid YAML ({error.problem})"
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_choice(error)
    if _is_of_logging(error):
        *_, first = _chain(error)
        return f"hydra.job_logging (or hydra.hydra_logging): {first}"
    cause = _first_omegaconf_error(error)
    if cause is not None:
        # Of a.b.c=1 where there is no a, the error names a alone.
        named = re.match(r"Could not override '([^']+)'", str(error))
        return _in_file(error) + _schema_error(cause, where, named[1] if named else "")
    return _words_of_hydra(error)


def required(key: str) -> str:
    """Return the message for a key without a value."""
    example = f": {EXAMPLES[key]}" if key in EXAMPLES else ""
    return f"{key}: a value is required{example}"


def is_usage_error(error: BaseException) -> bool:
    """Return whether the user's input caused the error; other errors keep their traceback."""
    kinds = HydraException | OmegaConfBaseException | yaml.YAMLError
    return isinstance(error, kinds) or _is_of_logging(error)


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """Return ` Did you mean 'x'?` if a known name is similar, else an empty string."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _unknown_choice(error: MissingConfigException) -> str:
    path = str(error.missing_cfg_file or "")
    options = tuple(sorted(error.options or ()))
    # A choice may hold slashes itself: an id of a hub, a directory.
    group, slash, name = path.rpartition("/") if path.startswith("hydra/") else path.partition("/")
    if not slash:
        return str(error)
    if extra := EXTRAS.get(f"{group}={name}"):
        return f"{group}={name}: not installed: pip install 'ascend-accuracy-runner[{extra}]'"
    said = f"{group}={name}: no such choice"
    if group == "model" and "/" in name:
        return f"{said}; {advice(name)}"
    other = OTHER_CHOICES.get(f"{group}={name}")
    near = f" Did you mean '{other}'?" if other else suggestion(name, options)
    if name and group in INSTEAD and (group == "task" or not near):
        said += f"; {INSTEAD[group].format(name)}"
    elif name and group == "model" and not near:
        said += f"; {advice(name)}"
    return f"{said}.{near} Known: {', '.join(options)}"


def _words_of_hydra(error: Exception) -> str:
    """Complaints that are text alone."""
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be parsed as key=value ({text.partition(chr(10))[0]})"
    if isinstance(error, ConfigCompositionException) and "No match in the defaults list" in text:
        group = re.search(r"override '([^']+)'", text)
        return _unknown_key(group.group(1) if group else text, ())
    if found := re.match(r"Ambiguous value for argument '(.*)'", text):
        key, _, values = found[1].partition("=")
        if places.is_group(key):
            return f"{found[1]}: to sweep over these choices, add --multirun"
        return (
            f"{found[1]}: to sweep over these values, add --multirun; for one value that is a "
            f"list, write {key}=[{values}]"
        )
    if found := re.match(r"Cannot find primary config '(.*)'", text):
        where = ", ".join(str(each) for each in places.directories())
        return f"--config-name={found[1]}: no such file in {where}"
    if found := re.match(r"Sweep parameters '(.*)' requires --multirun", text):
        return f"{found[1]}: {_INTERVAL if 'interval(' in found[1] else 'needs --multirun'}"
    if "does not support sweep type : INTERVAL_SWEEP" in text:
        return f"interval(…): {_INTERVAL}"
    if found := re.match(r"Could not delete from config. '(.*)' does not exist", text):
        return f"~{found[1]}: there is nothing to delete; write {found[1]}=null for its default"
    return " ".join(text.split())


_INTERVAL = (
    "works only in a search (--multirun hydra/sweeper=optuna); for a sweep, list the values, as "
    "in --multirun task.limit=100,200"
)


def _is_of_logging(error: BaseException) -> bool:
    """Whether Python's logging does not take its configuration, which Hydra hands to it."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals["__name__"] == "logging.config" for frame, _ in frames)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _first_omegaconf_error(error: BaseException) -> OmegaConfBaseException | None:
    return next((each for each in _chain(error) if isinstance(each, OmegaConfBaseException)), None)


def _in_file(error: BaseException) -> str:
    """The file that does not fit the schema, where Hydra names it."""
    found = re.match(r"In '([^']+)': \w+ raised while composing config", str(error))
    file = places.file_of(found[1]) if found else None
    return f"{file}: " if file is not None else ""


def _schema_error(error: OmegaConfBaseException, where: str, named: str = "") -> str:
    key = ".".join(part for part in (where, str(error.full_key or error.key or "")) if part)
    said = _first_line(error)
    if isinstance(error, InterpolationToMissingValueError):
        missing = re.search(r"Missing mandatory value: (\S+)", said)
        if missing:
            return required(missing[1])
    if isinstance(error, InterpolationResolutionError):
        variable = re.search(r"Environment variable '(.*)' not found", said)
        if variable:
            return (
                f"{key or 'a setting'}: the environment variable {variable[1]} is not set; set "
                f"it, or give a default: ${{oc.env:{variable[1]},DEFAULT}}"
            )
    if "is not a ListConfig" in said:
        value = error.value if isinstance(getattr(error, "value", None), str) else "VALUE"
        return f"{key}={value}: must be a list; write {key}=[{value}]"
    if isinstance(error, ValidationError) and error.parent_node is not None:
        return f"{key}: {said}"
    if "not in" in said:
        return _unknown_key(key, _siblings(error), named if key and "." not in key else "")
    return f"{key}: {said}" if key else said


def _unknown_key(key: str, known: tuple[str, ...], named: str = "") -> str:
    """With the key that was meant: a sibling, or one of that name in another group."""
    every = schema_keys(RunConfig)
    key = named or key
    parent, _, name = key.rpartition(".")
    if found := meant(key):
        return f"{key}: no such key. Did you mean {found}?"
    if not known:
        return f"{key}: no such key.{suggestion(key, every)} {_HELP}"
    near = suggestion(key if named else name, known)
    if parent == "engine":
        near += f" To pass an argument to vLLM's engine, use engine.extra.{name}=…."
    group = "" if named else parent
    return f"{key}: no such key.{near} {group or 'The top level'} has: {', '.join(known)}"


def meant(key: str) -> str:
    """Return the full key of a setting with this name (`tp`: parallelism.tp), or an empty text."""
    first, _, rest = key.partition(".")
    last = key.rpartition(".")[2]
    if last in OTHER_NAMES:
        return OTHER_NAMES[last]
    if first in {item.name for item in fields(RunConfig)}:
        return ""  # a group, with a typo below it
    # `model.serve` is what model files say.
    named = [
        each
        for each in schema_keys(RunConfig)
        if each.endswith(f".{first}") and not each.startswith("model.serve.")
    ]
    return " or ".join(f"{each}.{rest}" if rest else each for each in named[:3])


_HELP = "`python -m runner --help` lists the keys"


def _siblings(error: OmegaConfBaseException) -> tuple[str, ...]:
    kind: Any = error.object_type
    if kind is not None and is_dataclass(kind):
        return tuple(sorted(item.name for item in fields(kind)))
    return ()


def schema_keys(schema: type, prefix: str = "") -> tuple[str, ...]:
    """Return every dotted key of a dataclass schema, groups included."""
    hints = get_type_hints(schema)
    keys: list[str] = []
    for item in fields(schema):
        keys.append(prefix + item.name)
        if is_dataclass(hints[item.name]):
            keys.extend(schema_keys(hints[item.name], f"{prefix}{item.name}."))
    return tuple(keys)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
