"""Composes the points of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.config import loading
from runner.config.composed import Composed, composed_point
from runner.config.model_choice import refuse_other_weights
from runner.config.schema import RunConfig
from runner.config.usage import explain, is_usage_error
from runner.errors import UserError
from runner.sweep.record import sweep_id


@dataclass(frozen=True)
class Point:
    """One composed point; only its configuration has been checked."""

    number: int
    overrides: tuple[str, ...]
    config: RunConfig
    composed: Composed


def compose(
    context: HydraContext, sweep: DictConfig, overrides: Sequence[str], number: int, name: str
) -> Point:
    """Compose the point that `python -m runner` would run with these overrides.

    `name` distinguishes it from the other points.

    Raises:
        UserError: if the overrides are invalid.
    """
    try:
        composed = context.config_loader.load_sweep_config(sweep, list(overrides))
    except Exception as error:
        if not is_usage_error(error):
            raise
        raise UserError(explain(error)) from error
    with open_dict(composed):
        composed.hydra.job.id, composed.hydra.job.num = str(number), number
        composed.suite.entries = {}  # a point is one of them
    refuse_other_weights(composed.hydra)
    HydraConfig.instance().set_config(composed)  # what ${hydra:…} is resolved by
    hydra = composed.hydra
    with open_dict(composed):
        del composed["hydra"]
    config = loading.load(composed)
    place = Path(str(sweep.hydra.sweep.dir))
    named = replace(config.sweep, id=sweep_id(place), point=name or None)
    return Point(
        number,
        tuple(overrides),
        replace(config, sweep=named),
        composed_point(composed, hydra, overrides),
    )


def same_run(composed: str, other: str) -> bool:
    """Return whether two composed configurations are equal apart from their output."""
    return _essence(composed) == _essence(other)


def _essence(composed: str) -> object:
    content = OmegaConf.to_container(OmegaConf.create(composed))
    assert isinstance(content, dict)
    repeat = content.pop("sweep", {}).get("repeat")
    aside = ("output_dir", "tracking", "limits", "preflight_only", "objective", "suite", "lang")
    return {"repeat": repeat, **{k: v for k, v in content.items() if k not in aside}}
