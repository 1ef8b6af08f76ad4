"""Hydra takes launchers from this package alone; what they do is in runner/sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.sweep.launcher import SweepLauncher
from runner.sweep.points import Point


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
