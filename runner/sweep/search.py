"""Objectives and checks of a search (hydra/sweeper=optuna)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.schema import RunConfig
from runner.errors import UserError

DIRECTIONS = {"accuracy": "maximize", "throughput": "maximize", "seconds": "minimize"}


def number(name: str, directory: Path) -> float:
    """Return the objective of a finished point for the search."""
    from runner.sweep.objective import objective

    found = objective(name, directory)
    return infeasible(name) if math.isnan(found) else found


def infeasible(name: str) -> float:
    """Return the worst possible objective; NaN would end an Optuna search."""
    return math.inf if DIRECTIONS.get(name) == "minimize" else -math.inf


def check(sweeper: Any, config: RunConfig) -> None:
    """Check that the direction of a search fits its objective; Optuna minimizes by default.

    Raises:
        UserError: if it does not, or if the search only shows plans.
    """
    found = OmegaConf.select(OmegaConf.create(sweeper), "direction")
    wanted = DIRECTIONS.get(config.objective)
    if found is None or wanted is None:
        return
    if config.preflight_only:
        raise UserError(
            "preflight_only=true: not possible, because a search chooses its points while it runs"
        )
    asked = getattr(found, "name", str(found))
    if asked != wanted:
        raise UserError(
            f"hydra.sweeper.direction={asked}: objective={config.objective} needs "
            f"hydra.sweeper.direction={wanted}"
        )
