"""The same run, sent to a real MLflow server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.rundir import RunDirectory, read_json, write_json
from runner.tracking.records import Begun
from runner.tracking.tracked import TrackedRun, run_page
from tests.e2e.conftest import Finished, environment

pytestmark = pytest.mark.slow

START_S = 120


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    options += ["--artifacts-destination", str(tmp_path / "artifacts")]
    options += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *options], cwd=tmp_path)
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=5)
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.5)
        yield uri
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_run_that_found_no_server_is_synced_to_it_once(
    server: str, default_run: Finished, tmp_path: Path
) -> None:
    """The session's run, as it would lie there if the server had been away when it ended."""
    import mlflow

    shutil.copytree(default_run.directory, tmp_path / "outputs" / "run")
    run = RunDirectory(tmp_path / "outputs" / "run")
    run.tracked.unlink()
    begun: Begun = read_json(run.tracking, Begun)
    write_json(run.tracking, replace(begun, uri=server))
    sync = [sys.executable, "-m", "runner.sync"]
    several = [
        subprocess.Popen(sync, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [each.communicate(timeout=300)[0] for each in several]
    assert [each.returncode for each in several] == [0, 0], printed
    tracked: TrackedRun = read_json(run.tracked, TrackedRun)
    assert f"uploaded: outputs/run  {run_page(tracked)}" in "".join(printed)
    client = mlflow.MlflowClient(tracking_uri=server)
    (kept,) = client.search_runs([tracked.experiment_id])
    assert kept.info.run_id == tracked.run_id
    assert kept.info.status == "FINISHED"
    assert kept.info.end_time - kept.info.start_time > 10_000
    assert kept.data.tags["verdict"] == "PASSED"
    names = {artifact.path for artifact in client.list_artifacts(tracked.run_id)}
    written = {file.name for file in run.path.iterdir()} - {"mlflow.json"}
    assert names == written | {"metrics.csv", "answers.json"}
    again = subprocess.run(sync, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "0 uploaded, 0 pending\n")
