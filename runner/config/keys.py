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

from runner.config import places
from runner.config.overrides import in_yaml
from runner.config.schema import AskConfig, RunConfig, SeriesConfig
from runner.config.suite import SuiteEntryConfig
from runner.config.verdict import MetricRuleConfig

# Where the comments of a printed configuration begin.
COLUMN = 44
KEY = re.compile(r"( *)(\w+):")
# Mappings whose entries a user names: the names below them, and what stands under those.
CHOSEN: Mapping[str, tuple[str, type[Any]]] = {
    "model.ask": ("TASK", AskConfig),
    "model.by_series": ("SERIES", SeriesConfig),
    "verdict.metrics": ("TASK.METRIC.FILTER", MetricRuleConfig),
    "suite.entries": ("NAME", SuiteEntryConfig),
}
TITLE = """\
# Configuration keys

Every key that you can set on the command line (`key=value`) or in a file.

The defaults here are those of the schema. The files in `conf/` change some of them:
`limits.stall_s` is null here, but 900 with `limits=usual`, which every run uses unless you choose
another.
`python -m runner --help` shows the values that your choices result in. "set by conf/" means that
the schema has no default, and `${model.serve.tp}` stands for the value of `model.serve.tp`.

`model.serve.…` and `model.ask.…` are the defaults of a model. The keys of `parallelism`, `engine`
and `task` take precedence over them ([precedence](configuration.md#precedence)). In the last three
tables, you choose the names written in capitals.\
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
    """All keys in the order of the schema; those below names that a user chooses come last."""
    found = list(_keys(RunConfig, ""))
    for mapping, (names, kind) in CHOSEN.items():
        found += _keys(kind, f"{mapping}.{names}.", absent="required")
    return tuple(found)


def markdown() -> str:
    """The text of docs/keys.md."""
    lines, group = [TITLE], ""
    for key in keys():
        if (title := _group(key.name)) != group:
            group = title
            lines.append(f"\n## {title}\n\n{HEAD}")
        cells = (f"`{key.name}`", f"`{key.type}`", key.default, key.meaning)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _group(name: str) -> str:
    """The heading of a key: its group, or the mapping whose entries a user names."""
    for mapping in CHOSEN:
        if name.startswith(f"{mapping}."):
            return f"Entries of `{mapping}`"
    return f"`{name.partition('.')[0]}`" if "." in name else "The run"


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
    """Make `${commented_settings:}` the settings of the configuration that it stands in.

    `${listed_choices:}` are the choices of each group. Hydra would list every directory of conf/.
    """

    def settings(*, _root_: DictConfig) -> str:
        own = OmegaConf.masked_copy(_root_, [str(name) for name in _root_ if name != "hydra"])
        return commented(own, "--resolve" in sys.argv).replace("$", "$$")  # Hydra's template

    def listed() -> str:
        return "\n".join(f"{each}: {', '.join(places.choices(each))}" for each in places.groups())

    OmegaConf.register_new_resolver("commented_settings", settings, replace=True)
    OmegaConf.register_new_resolver("listed_choices", listed, replace=True)


def _keys(kind: type[Any], prefix: str, absent: str = "set by conf/") -> Iterator[Key]:
    """The keys of a dataclass; `absent` is shown for those without a default."""
    types, meanings = get_type_hints(kind), _meanings(kind)
    for each in dataclasses.fields(kind):
        if each.metadata.get("omegaconf_ignore"):
            continue
        of_field = types[each.name]
        if dataclasses.is_dataclass(of_field) and isinstance(of_field, type):
            yield from _keys(of_field, f"{prefix}{each.name}.", absent)
        else:
            name, default = f"{prefix}{each.name}", _default(each, absent)
            yield Key(name, _spelled(of_field), default, meanings.get(each.name, ""))


def _spelled(kind: Any) -> str:
    """`int`, `str or null`, `dict[str, Any]`."""
    plain = isinstance(kind, type) and not get_args(kind)
    text = kind.__name__ if plain else str(kind)
    return text.replace("typing.", "").replace("None", "null").replace(" | ", " or ")


def _default(each: dataclasses.Field[Any], absent: str) -> str:
    if each.default_factory is not dataclasses.MISSING:
        return f"`{in_yaml(each.default_factory())}`"
    if each.default is dataclasses.MISSING or each.default == MISSING:
        return absent
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
