"""python -m runner.view: a page with its blocks, for this machine alone."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.lm.sample_table import SampleRow
from runner.outcome import Outcome
from runner.plan import Plan
from runner.present import browser
from runner.rundir import RunDirectory, read_json, write_json
from runner.verdict import judge
from runner.view.__main__ import main
from runner.view.pages import read_pages
from runner.view.server import Server, listen
from tests.compared import rows, write_run


def viewed(directory: Path, environment: Environment, samples: list[SampleRow]) -> RunDirectory:
    run = RunDirectory(write_run(directory, samples, environment=environment))
    plan, outcome = read_json(run.plan, Plan), read_json(run.outcome, Outcome)
    write_json(run.verdict, judge(outcome, plan.evaluations, VerdictConfig()))
    return run


@pytest.fixture
def server(tmp_path: Path, environment: Environment) -> Iterator[Server]:
    run = viewed(tmp_path / "run", environment, rows(3, 10))
    with listen(0) as found:
        found.pages = read_pages(run.path)
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def get(server: Server, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={"Host": f"{host}:{server.server_port}"})
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


def test_the_page_asks_for_blocks_that_are_whole(server: Server) -> None:
    status, page = get(server, "/")
    assert status == 200 and b"connect-src 'self'" in page
    assert b"application/octet-stream" not in page
    (blocks,) = re.findall(r'data-blocks="([^"]+)"', page.decode())
    status, block = get(server, f"/{blocks}/texts-0")
    details = json.loads(zlib.decompress(block, wbits=31))
    assert [each["sides"][0]["responses"] for each in details] == [["B"]] * 3 + [["A"]] * 7
    assert get(server, f"/{blocks}/texts-1")[0] == 404
    assert get(server, "/../../etc/passwd")[0] == 404


def test_a_page_of_another_run_gets_no_texts(tmp_path: Path, environment: Environment) -> None:
    """It may still be open when a second run is shown at the same port."""
    same = rows(3, 10)
    other = [replace(each, prompt="Another question?") for each in same]
    first, second = (
        read_pages(viewed(tmp_path / name, environment, samples).path)
        for name, samples in (("a", same), ("b", other))
    )
    assert first.keys() & second.keys() == {"/"}


def test_the_port_is_free_again_at_once() -> None:
    """A connection that the server has closed keeps the port for a minute."""
    with listen(0) as server:
        port = server.server_port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            connection, _ = server.socket.accept()
            connection.close()
            assert client.recv(1) == b""
    listen(port).server_close()


def test_port_80_is_not_named_by_browsers(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", "/", headers={"Host": "127.0.0.1"})
    assert connection.getresponse().status == 200
    connection.close()


def test_only_this_machine_is_answered(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/", "localhost")[0] == 200
    assert get(server, "/", "evil.example")[0] == 403


def test_texts_are_whole_where_the_page_cuts_them(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "MOST_TEXT", 2000)
    long = " ".join(str(7919 * n % 10007) for n in range(5000))
    run = viewed(tmp_path / "run", environment, [replace(rows(0, 1)[0], responses=[long])])
    pages = read_pages(run.path)
    (texts,) = [block for path, (_, block) in pages.items() if path.endswith("/texts-0")]
    (detail,) = json.loads(zlib.decompress(texts, wbits=31))
    assert detail["sides"][0]["responses"] == [long]
    assert b"are cut" not in pages["/"][1]


def test_what_is_no_run_is_said_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: .*: not the directory of a run .*plan.json is missing\)\n", error)


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_used_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = str(other.getsockname()[1]) if port == "taken" else port
        assert main([str(tmp_path), "--port", number]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: --port {number}: ") and len(error.splitlines()) == 1


def test_ctrl_c_ends_it(tmp_path: Path, environment: Environment) -> None:
    run = viewed(tmp_path / "run", environment, rows(3, 10))
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.view", str(run.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ \(stop with Ctrl-C\)\n", line)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
