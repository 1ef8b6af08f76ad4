"""The same run, sent to a real MLflow server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner import config as configuration
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.tracking import sender
from runner.tracking.tracked import run_page
from runner.verdict import Verdict
from tests.e2e.conftest import Finished

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


def test_a_server_receives_the_whole_run(server: str, default_run: Finished) -> None:
    import mlflow

    run = RunDirectory(default_run.directory)
    configuration.register()
    config = configuration.load(OmegaConf.load(run.config))
    config.tracking.uri = server
    tracked = sender.track(
        run,
        config,
        read_json(run.plan, Plan),
        read_json(run.environment, Environment),
        read_json(run.outcome, Outcome),
        read_json(run.verdict, Verdict),
        started_ms=1_000,
        ended_ms=61_000,
    )
    assert run_page(tracked).startswith(f"{server}/#/experiments/")
    client = mlflow.MlflowClient(tracking_uri=server)
    kept = client.get_run(tracked.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.info.end_time - kept.info.start_time == 60_000
    assert kept.data.tags["verdict"] == "PASSED"
    names = {artifact.path for artifact in client.list_artifacts(tracked.run_id)}
    assert names == {file.name for file in default_run.directory.iterdir()}
