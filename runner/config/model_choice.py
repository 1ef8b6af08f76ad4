"""Find the model file for given weights, so that no run is recorded under another model's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from runner import adapters
from runner.config import places
from runner.config.overrides import written
from runner.errors import UserError
from runner.hub_ids import is_path, weights_name


def advice(pretrained: str) -> str:
    """Return the settings that run these weights under the right model."""
    known = _file_for(pretrained)
    own = f"model=any model.pretrained={pretrained}"
    if known is None:
        return f"use {own}"
    if is_path(pretrained):
        known += f" model.pretrained={pretrained}"
    return f"model={known} has settings and baselines for these weights; {own} has neither"


def refuse_other_weights(hydra: Any) -> None:
    """Reject `model.pretrained` without `model`: the default model's settings don't apply to it.

    Raises:
        UserError: if `hydra`, Hydra's record of a composition, has such overrides.
    """
    if hydra.job.config_name != places.CONFIG_NAME:  # a user's own, which may choose the model
        return
    chosen = dict(_pairs(written(hydra.overrides.task)))
    if "model.pretrained" in chosen and "model" not in chosen:
        weights = chosen["model.pretrained"].strip("'\"")
        directory = Path(weights).expanduser()
        if adapters.is_adapter(directory):
            raise UserError(adapters.as_model(directory))
        raise UserError(
            f"model.pretrained={weights}: also set model=…, or the run uses the settings of "
            f"{hydra.runtime.choices.model}; {advice(weights)}"
        )


def _pairs(overrides: Iterable[str]) -> Iterator[tuple[str, str]]:
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        yield key, value


def _file_for(pretrained: str) -> str | None:
    """The choice of `model` whose weights have this name, wherever they are published."""
    name = weights_name(pretrained).lower()
    for choice in places.choices("model"):
        file = places.file_of(f"model/{choice}")
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file is not None else None
        ids = (content.get(key) for key in ("pretrained", "modelscope")) if content else ()
        if any(isinstance(each, str) and weights_name(each).lower() == name for each in ids):
            return choice
    return None
