"""Tells people how a suite ended: whom, when, and once."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from runner.config.notify import ALWAYS, NotifyConfig
from runner.messages import warn
from runner.rundir import read_json, write_json
from runner.suite import entries, nights, receivers, result
from runner.suite.news import news, states
from runner.suite.receivers import NotDelivered

NAME = "notified.json"
PAGE = "index.html"
PASSWORD = "SUITE_SMTP_PASSWORD"
# The secret that signs messages to a chat is in the variable of its address, with this end.
SECRET = "_SECRET"


@dataclass(frozen=True)
class Notified:
    """notified.json: the verdicts that receivers were told."""

    states: dict[str, str]
    receivers: tuple[str, ...]


def notify(directory: Path, out: Console) -> None:
    """Tell the suite's receivers about the finished night, if it has news for them.

    A receiver that can't be reached costs some seconds and a warning. A night that is finished
    again, because it was resumed, is told again only if a verdict changed.
    """
    asked = entries.read(directory)
    if not asked.notify.asked:
        return
    found = result.read(directory)
    told = news(found, nights.earlier(directory, asked.name, asked.started))
    now = states(found)
    if now == _told_before(directory):
        return
    if not told.changed and asked.notify.when != ALWAYS:
        out.print("no verdict changed since the night before, so nobody was notified")
        return
    lines = [*told.lines, asked.notify.link or f"{socket.gethostname()}:{directory / PAGE}"]
    reached = []
    for receiver, send in _receivers(asked.notify, lines):
        try:
            send()
        except NotDelivered as error:
            warn(f"{receiver} was not notified: {error}")
        else:
            reached.append(receiver)
    if reached:
        write_json(directory / NAME, Notified(now, tuple(reached)))
        out.print(f"notified: {', '.join(reached)}")


def _receivers(notify: NotifyConfig, lines: list[str]) -> Iterator[tuple[str, Callable[[], None]]]:
    for chat, variable in notify.chats.items():
        address, secret = os.environ.get(variable, ""), os.environ.get(variable + SECRET, "")
        yield chat, partial(receivers.post, chat, address, lines, secret, time.time())
    if notify.email.to:
        password = os.environ.get(PASSWORD, "")
        receiver = f"e-mail to {', '.join(notify.email.to)}"
        yield receiver, partial(receivers.mail, notify.email, lines, password)


def _told_before(directory: Path) -> dict[str, str] | None:
    try:
        known: Notified = read_json(directory / NAME, Notified)
    except (FileNotFoundError, ValueError):
        return None
    return known.states
