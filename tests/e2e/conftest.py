"""Real engines, started as a user starts them: `python -m runner`, in a directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its status, what it printed, and its directory."""

    status: int
    printed: str
    directory: Path
    store: str

    def json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text())

    @property
    def report(self) -> str:
        return (self.directory / "report.md").read_text()

    def samples(self) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(self.directory / "samples.parquet").to_pylist()
        return rows


def command(directory: Path, store: str, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "runner",
        f"output_dir={directory}",
        f"tracking.uri={store}",
        *overrides,
    ]


def environment() -> dict[str, str]:
    """A user's own: no hub, and the checkout found from anywhere."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PROJECT)}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all runs of the session."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


Run = Callable[..., Finished]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, store: str) -> Run:
    def start(*overrides: str, store: str = store) -> Finished:
        where = tmp_path_factory.mktemp("run")
        directory = where / "out"
        ended = subprocess.run(
            command(directory, store, *overrides),
            cwd=where,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Finished(ended.returncode, ended.stdout, directory, store)

    return start


@pytest.fixture(scope="session")
def default_run(run: Run) -> Finished:
    """`python -m runner`, and nothing else: shared by every test that only looks."""
    return run()
