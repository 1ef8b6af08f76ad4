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
from runner.language import gettext
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
    """notified.json: the verdicts that each receiver was told."""

    told: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Receiver:
    """`name` identifies it in notified.json, `shown` is for people."""

    name: str
    shown: str
    send: Callable[[], None]


def notify(directory: Path, out: Console) -> None:
    """Tell the suite's receivers about the finished night, if it has news for them.

    A receiver that can't be reached costs some seconds and a warning. It is told tonight's verdicts
    if they are not what it was told last, of this night before it was resumed or an earlier one.
    """
    asked = entries.read(directory)
    if not asked.notify.asked:
        return
    found = result.read(directory)
    before = nights.earlier(directory, asked.name, asked.started)
    now = states(found)
    own = _told(directory)
    earlier = [_told(each.directory) for each in before]
    known = {name: told for each in reversed(earlier) for name, told in each.items()} | own
    reached: list[Receiver] = []
    knowing = True
    lines = [
        *news(found, before),
        asked.notify.link or f"{socket.gethostname()}:{directory / PAGE}",
    ]
    for receiver in _receivers(asked.notify, lines):
        again = asked.notify.when == ALWAYS and receiver.name not in own
        if known.get(receiver.name) == now and not again:
            continue
        knowing = False
        try:
            receiver.send()
        except NotDelivered as error:
            warn(f"{receiver.name} was not notified: {error}")
        except Exception as error:  # of a library: the others are still told
            warn(f"{receiver.name} was not notified: {type(error).__name__}")
        else:
            reached.append(receiver)
    if reached:
        write_json(directory / NAME, Notified({**own, **{each.name: now for each in reached}}))
        shown = gettext(", ").join(each.shown for each in reached)
        out.print(gettext("notified: {receivers}", receivers=shown))
    elif knowing:
        out.print(gettext("nobody was notified: no verdict changed"))


def _receivers(notify: NotifyConfig, lines: list[str]) -> Iterator[Receiver]:
    for chat, variable in notify.chats.items():
        address, secret = os.environ.get(variable, ""), os.environ.get(variable + SECRET, "")
        send = partial(receivers.post, chat, address, lines, secret, time.time())
        yield Receiver(chat, chat, send)
    if notify.email.to:
        password = os.environ.get(PASSWORD, "")
        addresses = ", ".join(notify.email.to)
        shown = gettext("e-mail to {addresses}", addresses=addresses)
        send = partial(receivers.mail, notify.email, lines, password)
        yield Receiver(f"e-mail to {addresses}", shown, send)


def _told(directory: Path) -> dict[str, dict[str, str]]:
    try:
        known: Notified = read_json(directory / NAME, Notified)
    except (FileNotFoundError, ValueError):
        return {}
    return known.told
