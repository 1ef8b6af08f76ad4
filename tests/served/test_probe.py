"""The checks of python -m runner.probe against vLLM's own server, with the canary."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from runner.canary import WEIGHTS
from runner.platforms import PLATFORMS
from runner.status import INACCURATE
from tests.extras import needs

pytestmark = [pytest.mark.slow, needs("vllm", "cpu")]

PROJECT = Path(__file__).parents[2]
NAME, KEY, VARIABLE = "canary", "open-the-served-door", "SERVED_KEY"
# A start takes 30 s on a quiet machine, and much longer beside other engines.
START_S, STOP_S = 400, 60


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", NAME]
    arguments += ["--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"]
    arguments += ["--limit-mm-per-prompt", '{"image":2}']
    environment = {
        **os.environ,
        **PLATFORMS["cpu"].worker_environment(1, os.environ, eager=True),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_API_KEY": KEY,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path_factory.mktemp("server") / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(WEIGHTS), *arguments],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
        with suppress(ProcessLookupError):  # vLLM's resource tracker ends last
            os.killpg(server.pid, signal.SIGKILL)


def _wait(health: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            if httpx.get(health, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"not ready within {START_S} s: {log.read_text()[-4000:]}")


def probe(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runner.probe", url, "--api-key-env", VARIABLE, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), VARIABLE: KEY}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_the_canary_is_healthy(url: str) -> None:
    done = probe(url, "--model", str(WEIGHTS), "--concurrency", "32", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert KEY not in done.stdout
    identity = found["identity"]
    assert (identity["served_name"], identity["root"]) == (NAME, str(WEIGHTS))
    assert (identity["max_model_len"], identity["model_limit"]) == (1024, 4096)
    assert len(identity["answered_as"]) == 1
    assert [each["agreement"] for each in identity["prompts"]] == ["same"] * 8
    assert identity["vocabulary"] == {"compared": 515, "different": []}
    repeated = found["repeatability"]
    assert len(repeated["conditions"]) == 4
    assert repeated["cached"] > 0
    assert repeated["images"]
    for condition in repeated["conditions"]:
        assert condition["same"] == condition["answers"]
        assert condition["largest"] < 1e-3  # float32
        assert condition["compared"] >= 96
    crossed = found["crosstalk"]
    assert "16 images" in crossed["method"]  # the canary cannot copy
    assert crossed["matches"] == {"own": 128}
    assert crossed["detected"] == pytest.approx(0.0246, abs=2e-4)
    assert identity["unchecked"] == repeated["unchecked"] == []
    assert crossed["unchecked"] == ["texts: the model gives too many the same answer"]


def test_another_chat_template_is_found(url: str, tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS, tmp_path, dirs_exist_ok=True)
    template = tmp_path / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant\n", "assistant\nred "))
    done = probe(url, "--model", str(tmp_path), "--concurrency", "8")
    assert done.returncode == INACCURATE, done.stdout + done.stderr
    assert "FAILED  identity: prompts get other tokens" in done.stdout
    assert "PASSED  repeatability" in done.stdout
    assert "PASSED  cross-talk" in done.stdout
