"""What a search (hydra/sweeper=optuna) is told, and what it must not be asked to look for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.schema import RunConfig
from runner.errors import UserError

DIRECTIONS = {"accuracy": "maximize", "throughput": "maximize", "seconds": "minimize"}


def number(name: str, directory: Path) -> float:
    """Of a point that has ended, for the search that asked for it."""
    from runner.sweep.objective import objective

    found = objective(name, directory)
    return infeasible(name) if math.isnan(found) else found


def infeasible(name: str) -> float:
    """The worst there is, so that a search learns to stay away; NaN would end an Optuna search."""
    return math.inf if DIRECTIONS.get(name) == "minimize" else -math.inf


def check(sweeper: Any, config: RunConfig) -> None:
    """Optuna minimizes unless it is told otherwise, and so would find the worst.

    Raises:
        UserError: if Hydra's sweeper is a search, and one that cannot end well.
    """
    found = OmegaConf.select(OmegaConf.create(sweeper), "direction")
    wanted = DIRECTIONS.get(config.objective)
    if found is None or wanted is None:
        return
    if config.preflight_only:
        raise UserError("preflight_only=true: a search knows its points only as it goes on")
    asked = getattr(found, "name", str(found))
    if asked != wanted:
        raise UserError(
            f"hydra.sweeper.direction={asked}: objective={config.objective} needs "
            f"hydra.sweeper.direction={wanted}"
        )
