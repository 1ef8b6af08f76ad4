"""The result of a conversion: the text of a model file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from runner.config.composition import compose
from runner.errors import UserError

CHOICE = "adopted"
# First entry of every converted model file: all tasks that the file has baselines for.
DEFAULTS = [{"override /task@_global_.task": "baselines"}]


class LeftToAnother(UserError):
    """A file that is not an lm-eval or AISBench accuracy test."""


@dataclass(frozen=True)
class Adopted:
    """A converted file: its `model_name`, the `text` of our model file, and the dropped keys.

    `engine` is the engine that the model needs, if it is not the usual one; `case` the name of the
    case, if the file has several.
    """

    model_name: str
    text: str
    dropped: tuple[str, ...]
    engine: str | None = None
    case: str | None = None

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return this model composed with conf/ and the overrides.

        Raises:
            UserError: as `python -m runner` would with the file at hand.
        """
        chosen = any(each.startswith("engine=") for each in overrides)
        engine = [] if chosen or self.engine is None else [f"engine={self.engine}"]
        with tempfile.TemporaryDirectory() as directory:
            group = Path(directory) / "model"
            group.mkdir()
            (group / f"{CHOICE}.yaml").write_text(self.text, encoding="utf-8")
            return compose([f"model={CHOICE}", *engine, *overrides], directory)


def model_text(model: Mapping[str, Any], file: Path, problems: list[str], head: str = "") -> str:
    """Return the model file as YAML; note in `problems` what YAML here would read differently."""
    text = yaml.dump(dict(model), Dumper=_Plain, sort_keys=False, allow_unicode=True)
    if "${" in text:
        problems.append(
            f"{file.name}: contains ${{, which is plain text in the original but an interpolation "
            "here"
        )
    return head + text


class _Plain(yaml.SafeDumper):
    """Every mapping in full: what all tasks share is written out for each."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
