"""A real browser on a real MLflow server, over the store of a sweep.

`SCREENSHOTS=docs/images pytest tests/browser` takes the pictures of the documentation as well.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from runner.sweep.record import sweep_id
from runner.tracking.links import Links, links
from tests.browser.sweep import StoredSweep, stored
from tests.conftest import CanarySweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

START_S = 120
WAIT_MS = 60_000
WIDTH, HEIGHT = 1280, 720
# MLflow's assistant opens by itself, over a third of the window.
NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
NO_CHROMIUM = """\
These tests need Debian's chromium on PATH: `.ci/chromium` installs it (as root or with sudo); \
elsewhere install chromium by hand."""
NO_PLAYWRIGHT = "These tests need Playwright for Python: pip install --editable '.[cpu,dev]'"


def _cannot(reason: str) -> NoReturn:
    """A person may do without a browser; CI may not."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Ended with this folder's tests: Playwright keeps an event loop in the thread meanwhile."""
    executable = shutil.which("chromium")
    if executable is None:
        _cannot(NO_CHROMIUM)
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        _cannot(NO_PLAYWRIGHT)
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # Nothing but the server on this machine is to be reached.
        offline = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
        options = [offline, "--disable-gpu", "--hide-scrollbars"]
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def sweep(canary_sweep: CanarySweep) -> StoredSweep:
    """Beside it in the store: the attempt that was killed, and the comparison."""
    swept = canary_sweep.last
    return stored(swept.store, sweep_id(swept.directory), ("tp", "max_model_len"), "canary/acc")


@pytest.fixture(scope="package")
def server(sweep: StoredSweep, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As `make ui` starts it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("server")
    options = ["--backend-store-uri", sweep.uri, "--host", "127.0.0.1", "--port", str(port)]
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", *options, "--workers", "1"],
            cwd=directory,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _await_health(f"http://127.0.0.1:{port}", process, directory / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_health(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        except OSError:
            dead = process.poll() is not None
            assert not dead and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.2)


@pytest.fixture(scope="package")
def pages(server: str, sweep: StoredSweep) -> Links:
    """As they are printed when a sweep ends."""
    return links(server, sweep.experiment_id, sweep.run_ids, sweep.id, sweep.view)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A window of somebody who has never been here."""
    context = chromium.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US", timezone_id="UTC"
    )
    context.set_default_timeout(WAIT_MS)
    context.add_init_script(NO_ASSISTANT)
    yield context.new_page()
    context.close()


@pytest.fixture
def screenshot(page: Page) -> Callable[..., None]:
    """Write a picture for the documentation where one is asked for; the sizes are the window's."""

    def taken(name: str, height: int, width: int = WIDTH) -> None:
        folder = os.environ.get("SCREENSHOTS")
        if not folder:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.set_viewport_size({"width": width, "height": height})
        page.mouse.move(0, 0)
        _settle(page)
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return taken


def _settle(page: Any) -> None:
    """Wait until the page has looked the same for half a second."""
    page.evaluate(
        """() => new Promise(resolve => {
            let timer = setTimeout(resolve, 500);
            new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(resolve, 500); })
                .observe(document.body, {subtree: true, childList: true, attributes: true});
            setTimeout(resolve, 10000);
        })"""
    )
