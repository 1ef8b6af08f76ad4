"""Sends a text to a chat by its webhook, or by e-mail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import Any

import httpx

from runner.config.notify import STARTTLS, TLS, EmailConfig
from runner.errors import cause
from runner.language import gettext

# It logs the address of each request at the level of Hydra's own log, which users see.
logging.getLogger("httpx").setLevel(logging.WARNING)
TIMEOUT_S = 5.0
# Bytes of a text in UTF-8: WeCom cuts longer ones, and the others reject much longer ones.
LONGEST = {"wecom": 2048}
OTHERWISE = 15_000
# What a chat names its own error, in an answer with status 200; 0 is none.
ERROR_CODES = ("errcode", "code", "StatusCode")
# What httpx puts before the system's own words.
ERRNO = re.compile(r"^\[Errno -?\d+\] ")
ERROR_TEXTS = ("errmsg", "msg", "StatusMessage")


class NotDelivered(Exception):
    """Why a receiver has not got the text, without the webhook's address, which is a secret."""


def post(chat: str, address: str, lines: Sequence[str], secret: str, now: float) -> None:
    """Send the lines to a chat. `secret` signs the message if the chat's robot demands it.

    Raises:
        NotDelivered: if the webhook can't be reached, or refuses the message.
    """
    text = fitted(lines, LONGEST.get(chat, OTHERWISE))
    query, content = request(chat, text, secret, now)
    try:
        url = httpx.URL(address).copy_merge_params(query)
        answer = httpx.post(url, json=content, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        raise NotDelivered(ERRNO.sub("", str(error)) or type(error).__name__) from None
    except (httpx.InvalidURL, ValueError):  # it would quote the address
        raise NotDelivered("the webhook's address is invalid") from None
    if not answer.is_success:
        raise NotDelivered(f"HTTP {answer.status_code}")
    if told := _refused(answer):
        raise NotDelivered(told)


def request(
    chat: str, text: str, secret: str, now: float
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Return the query parameters and the JSON body of a message.

    Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks. DingTalk:
    https://open.dingtalk.com/document/robots/custom-robot-access. Feishu:
    https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot. WeCom:
    https://developer.work.weixin.qq.com/document/path/91770.
    """
    if chat == "slack":
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {}, {"text": escaped, "unfurl_links": False}
    if chat == "feishu":
        body: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
        if secret:
            time = str(int(now))
            body |= {"timestamp": time, "sign": _signed(f"{time}\n{secret}", "")}
        return {}, body
    body = {"msgtype": "text", "text": {"content": text}}
    if chat == "dingtalk" and secret:
        time = str(round(now * 1000))
        return {"timestamp": time, "sign": _signed(secret, f"{time}\n{secret}")}, body
    return {}, body


def mail(email: EmailConfig, lines: Sequence[str], password: str) -> None:
    """Send the lines as an e-mail; the first one is its subject.

    Raises:
        NotDelivered: if the server can't be reached, or refuses it.
    """
    message = EmailMessage()
    message["Subject"] = " ".join(lines[0].split())
    message["From"] = email.sender or email.to[0]
    message["To"] = ", ".join(email.to)
    message.set_content("\n".join(lines) + "\n")
    try:
        if email.security == TLS:
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                email.server, email.port, timeout=TIMEOUT_S, context=context
            )
        else:
            server = smtplib.SMTP(email.server, email.port, timeout=TIMEOUT_S)
        with server:
            if email.security == STARTTLS:
                server.starttls(context=ssl.create_default_context())
            if email.user is not None:
                server.login(email.user, password)
            refused = server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise NotDelivered(cause(error) or str(error) or type(error).__name__) from None
    if refused:
        raise NotDelivered(f"the server refused {', '.join(refused)}")


def fitted(lines: Sequence[str], most: int) -> str:
    """Return the lines in at most `most` bytes of UTF-8; the first and the last one stay."""
    whole = "\n".join(lines)
    left = list(lines)
    while len(whole.encode()) > most and len(left) > 2:
        del left[-2]
        more = gettext("… and {count} more lines", count=len(lines) - len(left))
        whole = "\n".join([*left[:-1], more, left[-1]])
    return whole.encode()[:most].decode(errors="ignore")


def _signed(key: str, text: str) -> str:
    digest = hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _refused(answer: httpx.Response) -> str:
    """The error that a chat describes in its answer; empty if there is none."""
    try:
        told = answer.json()
    except ValueError:  # Slack answers `ok`
        return ""
    if not isinstance(told, dict) or not any(told.get(name) for name in ERROR_CODES):
        return ""
    code = next(told[name] for name in ERROR_CODES if told.get(name))
    text = next((str(told[name]) for name in ERROR_TEXTS if told.get(name)), "no reason given")
    return f"error {code}: {text[:200]}"
