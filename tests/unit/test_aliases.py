"""Looking an alias up in a store of any size, without MLflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from runner.tracking.aliases import _bearers


class Page(list[Any]):
    """A page of MLflow's results."""

    token: str | None = None


class Store:
    """An MLflow client whose experiments come one to a page, each with a run that has the alias."""

    def __init__(self, experiments: int) -> None:
        self.experiments = experiments

    def search_experiments(self, page_token: str | None = None) -> Page:
        place = int(page_token or 0)
        page = Page([SimpleNamespace(experiment_id=str(place))])
        page.token = str(place + 1) if place + 1 < self.experiments else None
        return page

    def search_runs(self, experiments: list[str], *_: object, **__: object) -> Page:
        tags = {"alias.baseline": "model/task"}
        return Page(SimpleNamespace(data=SimpleNamespace(tags=tags), id=e) for e in experiments)


def test_runs_of_all_experiments_are_found() -> None:
    """MLflow returns 1,000 experiments a page; another run with the alias may be on the next."""
    assert [run.id for run, _, _ in _bearers(Store(3), "baseline")] == ["0", "1", "2"]
