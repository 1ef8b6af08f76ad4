"""Every configuration key with its type, default and meaning, as the schema has them.

`python -m runner.config.keys` prints docs/keys.md.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf

from runner.config.overrides import in_yaml
from runner.config.schema import AskConfig, RunConfig, SeriesConfig
from runner.config.verdict import MetricRuleConfig

# Where the comments of a printed configuration begin.
COLUMN = 44
KEY = re.compile(r"( *)(\w+):")
# What stands under names that a user chooses.
CHOSEN = {
    "model.ask.TASK": AskConfig,
    "model.by_series.SERIES": SeriesConfig,
    "verdict.metrics.TASK.METRIC.FILTER": MetricRuleConfig,
}
TITLE = """\
# Configuration keys

Every key that you can set on the command line (`key=value`) or in a file. The default is that of
the schema; model files and the choices of a group (`engine=…`, `limits=…`) set others, and
`python -m runner --help` shows what applies to your choices. `model.serve.…` and `model.ask.…` are
defaults of a model, which keys of `parallelism`, `engine` and `task` override
([precedence](configuration.md)).\
"""
HEAD = "| key | type | default | meaning |\n| --- | --- | --- | --- |"


@dataclass(frozen=True)
class Key:
    """One key, spelled as on the command line."""

    name: str
    type: str
    default: str
    meaning: str


def keys() -> tuple[Key, ...]:
    """All keys in the order of the schema; those under names that a user chooses come last."""
    found = list(_keys(RunConfig, ""))
    for prefix, kind in CHOSEN.items():
        found += _keys(kind, f"{prefix}.")
    return tuple(found)


def markdown() -> str:
    """The text of docs/keys.md."""
    lines, group = [TITLE], ""
    for key in keys():
        first = key.name.partition(".")[0] if "." in key.name else "the run"
        if first != group:
            group = first
            title = f"`{group}`" if group != "the run" else "The run"
            lines.append(f"\n## {title}\n\n{HEAD}")
        cells = (f"`{key.name}`", f"`{key.type}`", key.default, key.meaning)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def commented(config: DictConfig, resolve: bool) -> str:
    """A composed configuration as YAML, with the meaning of each key beside it."""
    meanings = {key.name: key.meaning for key in keys()}
    path: list[str] = []
    lines = []
    for line in OmegaConf.to_yaml(config, resolve=resolve).splitlines():
        found = KEY.match(line)
        if found is not None:
            path[len(found[1]) // 2 :] = [found[2]]
        meaning = meanings.get(".".join(path), "") if found is not None else ""
        lines.append(f"{line:<{COLUMN}}  # {meaning}" if meaning else line)
    return "\n".join(lines)


def register() -> None:
    """Make `${commented_settings:}` the settings of the configuration that it stands in."""

    def settings(*, _root_: DictConfig) -> str:
        own = OmegaConf.masked_copy(_root_, [str(name) for name in _root_ if name != "hydra"])
        return commented(own, "--resolve" in sys.argv).replace("$", "$$")  # Hydra's template

    OmegaConf.register_new_resolver("commented_settings", settings, replace=True)


def _keys(kind: type[Any], prefix: str) -> Iterator[Key]:
    types, meanings = get_type_hints(kind), _meanings(kind)
    for each in dataclasses.fields(kind):
        if each.metadata.get("omegaconf_ignore"):
            continue
        of_field = types[each.name]
        if dataclasses.is_dataclass(of_field) and isinstance(of_field, type):
            yield from _keys(of_field, f"{prefix}{each.name}.")
        else:
            spelled = _spelled(of_field)
            yield Key(f"{prefix}{each.name}", spelled, _default(each), meanings.get(each.name, ""))


def _spelled(kind: Any) -> str:
    """`int`, `str or null`, `dict[str, Any]`."""
    plain = isinstance(kind, type) and not get_args(kind)
    text = kind.__name__ if plain else str(kind)
    return text.replace("typing.", "").replace("None", "null").replace(" | ", " or ")


def _default(each: dataclasses.Field[Any]) -> str:
    if each.default_factory is not dataclasses.MISSING:
        return f"`{in_yaml(each.default_factory())}`"
    if each.default is dataclasses.MISSING or each.default == MISSING:
        return "set by conf/"
    return f"`{in_yaml(each.default)}`"


def _meanings(kind: type[Any]) -> Mapping[str, str]:
    """The text under each field, which Python itself drops."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node, following in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(node.target, ast.Name)
            found[node.target.id] = ast.literal_eval(following.value)
    return found


if __name__ == "__main__":
    print(markdown(), end="")
