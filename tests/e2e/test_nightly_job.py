"""A night as a scheduler runs it: docs/nightly/run_suite.sh with an engine, MLflow and a chat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import environment

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "docs" / "nightly" / "run_suite.sh"
SUITE = """\
# @package _global_
defaults:
  - override /hydra/sweeper: suite
hydra:
  mode: MULTIRUN
suite:
  name: tiny
  entries:
    good:
      model: canary_vl
      task: canary
      overrides: [task.limit=8, verdict.allow_partial=true, verdict.rtol=0.3]
    bad:
      model: canary_vl
      task: canary
      overrides: [task.limit=8, verdict.allow_partial=true, "model.baselines.canary.acc.none=0.2"]
  notify:
    chats: {slack: SLACK_WEBHOOK}
    link: https://ci/index.html
"""


def test_a_night_is_run_judged_published_and_told(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "conf" / "suite").mkdir(parents=True)
    (tmp_path / "conf" / "suite" / "tiny.yaml").write_text(SUITE)
    chat = HTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=chat.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            ["sh", SCRIPT, "--config-dir", "conf"],
            cwd=tmp_path,
            env={
                **environment(),
                "PYTHON": sys.executable,
                "SUITE": "tiny",
                "PUBLISH": "pages",
                "FOLLOW": "1",
                "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
                "SLACK_WEBHOOK": f"http://127.0.0.1:{chat.server_port}/hook",
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        chat.shutdown()
        chat.server_close()
    assert done.returncode == 3, done.stdout + done.stderr
    told = json.loads((tmp_path / "pages" / "suite.json").read_text())
    verdicts = {each["name"]: each["verdict"] for each in told["entries"]}
    assert verdicts == {"good": "PASSED", "bad": "FAILED"}
    assert (told["engine_starts"], told["exit_status"]) == (1, 3)
    assert all(each["mlflow_run"] for each in told["entries"])
    (message,) = sent
    assert message["text"].startswith(
        "Suite tiny FAILED: 1 of 2 required entries passed; bad FAILED"
    )
    assert message["text"].endswith("https://ci/index.html")
    cases = ET.parse(tmp_path / "pages" / "junit.xml").getroot().iter("testcase")
    assert [case.find("failure") is not None for case in cases] == [False, True]
    assert "0 uploaded, 0 pending" in done.stdout  # everything has arrived
    assert "runner.promote" not in done.stderr and os.listdir(tmp_path / "suites") == ["tiny"]
