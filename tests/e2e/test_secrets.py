"""A real run by a user with secrets in every variable: none is in anything that it leaves."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import CANARY, Finished

pytestmark = pytest.mark.slow


def _text(file: Path) -> str:
    """All that is in it; Parquet hides its text by compression."""
    plain = file.read_bytes().decode(errors="replace")
    return plain + str(pq.read_table(file).to_pylist()) if file.suffix == ".parquet" else plain


def test_no_secret_is_left_anywhere(default_run: Finished) -> None:
    """Run directory, engine's log, MLflow's store and artifacts, journal, terminal."""
    assert default_run.status == 0, default_run.printed
    assert CANARY not in default_run.printed
    store = Path(default_run.store.removeprefix("sqlite:///"))
    places = (default_run.directory.parent, store.parent)
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    kept = {file.name for file in files if "mlruns" in file.parts}
    assert {"engine.log", "environment.json", "config.yaml"} <= kept  # they were looked at
    assert store in files
    assert [str(file) for file in files if CANARY in _text(file)] == []
