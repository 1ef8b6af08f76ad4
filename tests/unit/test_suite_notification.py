"""Who is told how a suite ended: real messages to a web and a mail server on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from aiosmtpd.smtp import AuthResult
from omegaconf import OmegaConf
from rich.console import Console

from runner.config import loading
from runner.config.notify import EmailConfig, NotifyConfig
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.rundir import read_json, write_json
from runner.suite import entries, receivers, result
from runner.suite.entries import Asked
from runner.suite.finish import judged
from runner.suite.notification import NAME, Notified, notify
from runner.sweep.summary import read_sweep
from tests.suites import Played, night, right
from tests.sweeps import Found

NOBODY = "nobody was notified: no verdict changed\n"
GOOD, BAD = Found(right(80)), Found(right(40))


@dataclass
class Web:
    """A chat's server: what it was sent, and what it answers."""

    address: str
    answer: tuple[int, str] = (200, "ok")
    sent: list[tuple[dict[str, list[str]], Any]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [content["text"] for _, content in self.sent]


@pytest.fixture
def web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            found.sent.append((parse_qs(urlsplit(self.path).query), json.loads(content)))
            status, text = found.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found = Web(f"http://127.0.0.1:{server.server_port}/hook?key=k")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


class Mailbox(MessageHandler):
    """Keeps the messages that a mail server accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.messages.append(message)


Nights = Callable[..., Path]


@pytest.fixture
def suite(tmp_path: Path) -> Nights:
    """A finished night with two entries, of which the second is advisory."""

    def finished(date: str, first: Found | None, second: Found | None, **how: Any) -> Path:
        played = [Played("one", first), Played("two", second, tier="advisory")]
        started = float(date.replace("-", ""))
        directory = night(tmp_path / "suites", played, date, started)
        asked: Asked = entries.read(directory)
        write_json(
            directory / entries.NAME,
            Asked(asked.name, asked.started, asked.entries, NotifyConfig(**how)),
        )
        result.write(directory, judged(read_sweep(directory)))
        return directory

    return finished


@pytest.fixture
def slack(web: Web, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("SLACK_WEBHOOK", web.address)
    return {"chats": {"slack": "SLACK_WEBHOOK"}, "link": "https://ci/index.html"}


def told(directory: Path) -> str:
    """What the terminal shows."""
    out = StringIO()
    notify(directory, Console(file=out, width=200))
    return out.getvalue()


# What is told, and when


def test_the_first_night_is_told_and_the_next_one_only_if_a_verdict_changed(
    suite: Nights, web: Web, slack: dict[str, Any]
) -> None:
    assert told(suite("2026-11-01", GOOD, BAD, **slack)) == "notified: slack\n"
    assert "nobody was notified" in told(suite("2026-11-02", GOOD, BAD, **slack))
    assert told(suite("2026-11-03", BAD, BAD, **slack)) == "notified: slack\n"
    assert told(suite("2026-11-04", GOOD, BAD, **slack)) == "notified: slack\n"
    first, worse, better = web.texts
    assert "This is the suite's first night." in first
    lines = worse.splitlines()
    assert lines[0].startswith("Suite nightly FAILED")
    assert "Changed since 2026-11-02 22:10:" in lines
    (changed,) = (line for line in lines if line.startswith("- one (required): PASSED → FAILED"))
    assert changed.endswith("0.800 → 0.400")
    assert any("- two (advisory): FAILED since 2026-11-01 22:10 (3 nights): " in x for x in lines)
    assert lines[-1] == "https://ci/index.html"
    assert "- one (required): FAILED → PASSED" in better


def test_always_means_every_night(suite: Nights, web: Web, slack: dict[str, Any]) -> None:
    for day in (1, 2):
        told(suite(f"2026-11-0{day}", GOOD, GOOD, **slack, when="always"))
    assert "Nothing changed since 2026-11-01 22:10." in web.texts[1]


def test_a_missing_entry_a_new_one_and_one_that_is_gone_are_changes(
    suite: Nights, web: Web, slack: dict[str, Any], tmp_path: Path
) -> None:
    told(suite("2026-11-01", GOOD, GOOD, **slack))
    told(suite("2026-11-02", None, GOOD, **slack))
    assert "- one (required): PASSED → missing" in web.texts[-1]
    directory = night(tmp_path / "suites", [Played("three", GOOD)], "2026-11-03", 20261103.0)
    asked: Asked = entries.read(directory)
    write_json(
        directory / entries.NAME,
        Asked(asked.name, asked.started, asked.entries, NotifyConfig(**slack)),
    )
    result.write(directory, judged(read_sweep(directory)))
    told(directory)
    assert "- three: new, PASSED" in web.texts[-1]
    assert "- two: no longer in the suite" in web.texts[-1]


def test_a_night_is_told_once_and_again_only_with_other_verdicts(
    suite: Nights, web: Web, slack: dict[str, Any]
) -> None:
    directory = suite("2026-11-01", None, GOOD, **slack, when="always")
    told(directory)
    assert told(directory) == NOBODY and len(web.sent) == 1
    before: Notified = read_json(directory / NAME, Notified)
    shutil.rmtree(directory)
    again = suite("2026-11-01", GOOD, GOOD, **slack, when="always")  # it was resumed
    write_json(again / NAME, before)
    told(again)
    assert len(web.sent) == 2


def test_a_receiver_that_was_away_is_told_on_the_next_night(
    suite: Nights, web: Web, slack: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has changed since the night before, but it has not heard of that."""
    told(suite("2026-11-01", GOOD, GOOD, **slack))
    monkeypatch.setenv("SLACK_WEBHOOK", "http://127.0.0.1:9/hook")
    assert told(suite("2026-11-02", BAD, GOOD, **slack)) == ""
    monkeypatch.setenv("SLACK_WEBHOOK", web.address)
    assert told(suite("2026-11-03", BAD, GOOD, **slack)) == "notified: slack\n"
    assert "nobody was notified" in told(suite("2026-11-04", BAD, GOOD, **slack))


def test_the_all_clear_is_told_after_a_resume(
    suite: Nights, web: Web, slack: dict[str, Any]
) -> None:
    """The verdicts are again those of the night before, but people were told otherwise."""
    told(suite("2026-11-01", GOOD, GOOD, **slack))
    directory = suite("2026-11-02", None, GOOD, **slack)
    told(directory)
    before: Notified = read_json(directory / NAME, Notified)
    shutil.rmtree(directory)
    again = suite("2026-11-02", GOOD, GOOD, **slack)
    write_json(again / NAME, before)
    assert told(again) == "notified: slack\n"
    assert web.texts[-1].startswith("Suite nightly PASSED")


def test_nobody_is_told_unless_asked(suite: Nights) -> None:
    directory = suite("2026-11-01", BAD, BAD)
    assert told(directory) == "" and not (directory / NAME).exists()


def test_without_a_link_the_machine_and_the_file_are_named(
    suite: Nights, web: Web, slack: dict[str, Any]
) -> None:
    directory = suite("2026-11-01", BAD, BAD, **slack | {"link": None})
    told(directory)
    assert web.texts[0].splitlines()[-1] == f"{os.uname().nodename}:{directory}/index.html"


# Receivers that can't be reached


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "no such hook"), "slack was not notified: HTTP 404"),
        ((200, '{"errcode": 310000, "errmsg": "sign not match"}'), "error 310000: sign not match"),
        ((200, '{"code": 19021, "msg": "sign match fail"}'), "error 19021: sign match fail"),
    ],
)
def test_a_refused_message_is_a_warning_and_is_sent_again(
    suite: Nights,
    web: Web,
    slack: dict[str, Any],
    answer: tuple[int, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = suite("2026-11-01", BAD, BAD, **slack)
    web.answer = answer
    assert told(directory) == ""
    assert said in capsys.readouterr().err
    web.answer = (200, '{"errcode": 0, "code": 0}')
    assert told(directory) == "notified: slack\n"


def test_a_receiver_that_is_away_keeps_no_other_from_its_message_and_no_secret_is_shown(
    suite: Nights,
    web: Web,
    slack: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWAY_WEBHOOK", "http://127.0.0.1:9/robot?access_token=very-secret")
    chats = {"dingtalk": "AWAY_WEBHOOK", **slack["chats"]}
    email = EmailConfig(to=["a@example.org"], server="127.0.0.1", port=9)
    directory = suite("2026-11-01", BAD, BAD, chats=chats, email=email)
    assert told(directory) == "notified: slack\n"
    warned = capsys.readouterr().err
    assert "warning: dingtalk was not notified: Connection refused" in warned
    assert "warning: e-mail to a@example.org was not notified: Connection refused" in warned
    assert "very-secret" not in warned + (directory / NAME).read_text()
    monkeypatch.setenv("AWAY_WEBHOOK", web.address)  # and only who was not told is told later
    monkeypatch.setattr(receivers, "mail", lambda *_: None)
    assert told(directory) == "notified: dingtalk, e-mail to a@example.org\n"
    assert told(directory) == NOBODY


def test_a_webhook_s_address_is_not_logged(
    suite: Nights, web: Web, slack: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Hydra lets all libraries log at this level, to the screen."""
    logging.getLogger().setLevel(logging.INFO)
    told(suite("2026-11-01", BAD, BAD, **slack))
    assert len(web.sent) == 1 and "key=k" not in caplog.text


def test_a_library_that_fails_keeps_no_other_from_its_message(
    suite: Nights,
    web: Web,
    slack: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """httpx needs another package for such a proxy, and smtplib takes ASCII passwords alone."""
    monkeypatch.setenv("SUITE_SMTP_PASSWORD", "geheim-ü")

    def failing(*_: object) -> None:
        raise ImportError("socksio")

    monkeypatch.setattr(receivers, "mail", failing)
    email = EmailConfig(to=["a@example.org"])
    directory = suite("2026-11-01", BAD, BAD, **slack, email=email)
    assert told(directory) == "notified: slack\n"
    assert "e-mail to a@example.org was not notified: ImportError" in capsys.readouterr().err


# What each receiver gets


def test_each_chat_has_its_own_form() -> None:
    assert receivers.request("slack", "a < b & c", "", 0.0) == (
        {},
        {"text": "a &lt; b &amp; c", "unfurl_links": False},
    )
    text = {"msgtype": "text", "text": {"content": "a < b"}}
    for chat in ("wecom", "dingtalk"):
        assert receivers.request(chat, "a < b", "", 0.0) == ({}, text)
    assert receivers.request("feishu", "a", "", 0.0) == (
        {},
        {"msg_type": "text", "content": {"text": "a"}},
    )


def test_a_secret_signs_the_message(web: Web) -> None:
    """As the chats' documentation computes it."""
    receivers.post("dingtalk", web.address, ["a"], "SEC1", 1700000000.5)
    ((query, _),) = web.sent
    signed = hmac.new(b"SEC1", b"1700000000500\nSEC1", hashlib.sha256).digest()
    assert query == {
        "key": ["k"],
        "timestamp": ["1700000000500"],
        "sign": [base64.b64encode(signed).decode()],
    }
    receivers.post("feishu", web.address, ["a"], "SEC1", 1700000000.5)
    body = web.sent[-1][1]
    signed = hmac.new(b"1700000000\nSEC1", b"", hashlib.sha256).digest()
    assert body["timestamp"] == "1700000000"
    assert body["sign"] == base64.b64encode(signed).decode()


def test_a_long_text_keeps_its_first_and_last_line() -> None:
    lines = ["failed", *(f"- 条目 {number}" for number in range(500)), "https://ci"]
    text = receivers.fitted(lines, 2048)
    assert len(text.encode()) <= 2048
    first, *_, more, last = text.splitlines()
    assert (first, last) == ("failed", "https://ci") and more.endswith("more lines")
    assert receivers.fitted(lines[:3], 2048) == "\n".join(lines[:3])


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_an_e_mail_arrives(
    suite: Nights, security: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(served)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SUITE_SMTP_PASSWORD", "pass")
    logins: list[Any] = []

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        logins.append((data.login, data.password))
        return AuthResult(success=True)

    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": port, "authenticator": login}
    if security == "tls":
        options["ssl_context"] = served
    elif security == "starttls":
        options |= {"tls_context": served, "require_starttls": True}
    controller = Controller(box, auth_require_tls=security == "starttls", **options)
    controller.start()
    try:
        email = EmailConfig(
            to=["a@example.org", "b@example.org"],
            sender="suite@example.org",
            server="localhost",
            port=port,
            security=security,
            user="me" if security != "none" else None,
        )
        assert told(suite("2026-11-01", BAD, GOOD, email=email)).startswith("notified: e-mail to a")
    finally:
        controller.stop()
    (message,) = box.messages
    assert str(message["Subject"]).startswith("Suite nightly FAILED")
    assert (message["From"], message["To"]) == ("suite@example.org", "a@example.org, b@example.org")
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes) and "- one (required): FAILED" in content.decode()
    assert logins == ([] if security == "none" else [(b"me", b"pass")])


# Its settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("when=often", "suite.notify.when=often: must be one of change, always"),
        ("chats={teams: X}", "suite.notify.chats.teams: must be one of slack, dingtalk, feishu"),
        ("chats={slack: 'https://x'}", "suite.notify.chats.slack: must be the name of an environ"),
        ("chats={slack: NOT_SET}", "suite.notify.chats.slack=NOT_SET: set the environment variab"),
        ("email.to=[me]", "suite.notify.email: me: is no address; write name@host"),
        ("email.security=ssl", "suite.notify.email.security=ssl: must be one of starttls, tls, n"),
        ("email.server=a:25", "suite.notify.email.server=a:25: must be a host name; the port is"),
        ("email.port=0", "suite.notify.email.port=0: must be between 1 and 65535"),
        ("link=index.html", "suite.notify.link=index.html: must begin with http:// or https://"),
    ],
)
def test_a_mistake_is_named_before_the_suite_starts(given: str, said: str) -> None:
    suite = OmegaConf.structured(RunConfig).suite
    suite.notify.merge_with_dotlist([given])
    with pytest.raises(UserError) as caught:
        loading.notify_of(suite)
    (problem,) = caught.value.problems
    assert problem.startswith(said)


def test_the_settings_are_kept_with_the_night(tmp_path: Path) -> None:
    given = NotifyConfig(chats={"slack": "X"}, email=EmailConfig(to=["a@b"], port=25))
    entries.write(tmp_path / "night", "nightly", [], given)
    assert read_json(tmp_path / "night" / entries.NAME, Asked).notify == given
