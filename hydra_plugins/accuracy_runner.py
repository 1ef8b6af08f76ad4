"""Hydra plugins. Hydra only discovers plugins in this package; their code is in runner/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from runner.config import places
from runner.suite.sweeper import EntriesSweeper
from runner.sweep.launcher import SweepLauncher
from runner.sweep.points import Point


class OwnDirectories(SearchPathPlugin):
    """Puts the user's own configuration directories before conf/; Hydra would put them after it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for directory in places.own_directories:
            search_path.prepend(places.OWN, f"file://{directory}", anchor="main")


class LocalLauncher(SweepLauncher):
    """Runs one engine after another on this machine."""

    def run_points(self, sweep: Path, points: Sequence[Point]) -> None:
        from runner.sweep.local import run_locally

        run_locally(sweep, points)


class RayLauncher(SweepLauncher):
    """Runs as many engines concurrently as a Ray cluster has devices for.

    conf/hydra/launcher/ray.yaml describes the parameters.
    """

    def __init__(
        self,
        address: str | None = None,
        resources: Mapping[str, float] | None = None,
        retries: int = 2,
    ) -> None:
        super().__init__()
        self._address, self._resources, self._retries = address, dict(resources or {}), retries

    def run_points(self, sweep: Path, points: Sequence[Point]) -> None:
        from runner.sweep.ray import Options, run_on_ray

        run_on_ray(sweep, points, Options(self._address, self._resources, self._retries))


class SuiteSweeper(EntriesSweeper):
    """Runs each entry of a suite once."""
