"""Hydra takes plugins from this package alone; what they do is in runner/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from runner.config import places
from runner.sweep.launcher import SweepLauncher
from runner.sweep.points import Point


class OwnDirectories(SearchPathPlugin):
    """Puts a user's own directories before conf/, where Hydra puts them behind it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for directory in places.own_directories:
            search_path.prepend(places.OWN, f"file://{directory}", anchor="main")


class LocalLauncher(SweepLauncher):
    """One engine after the other, on this machine."""

    def run_points(self, sweep: Path, points: Sequence[Point]) -> None:
        from runner.sweep.local import run_locally

        run_locally(sweep, points)


class RayLauncher(SweepLauncher):
    """As many engines side by side as a Ray cluster has devices for; conf/hydra/launcher/ray.yaml
    says what the parameters mean."""

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
