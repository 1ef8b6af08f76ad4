"""Secrets in a text: by the shape that their makers gave them, or by what stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner.secrecy.names import is_secrets

SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}"  # Hugging Face
    r"|\bms-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # ModelScope
    r"|\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,})"  # GitHub, GitLab
    r"|\bsk-[\w-]*[A-Za-z0-9]{20,}"  # OpenAI and what imitates it
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}"  # Amazon, Google
    r"|\bxox[abeprs]-[\w-]{10,}|\bhooks\.slack\.com/services/[\w/]+"  # Slack
    r"|\bopen\.feishu\.cn/open-apis/bot/v2/hook/[\w-]+"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"  # a JSON web token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*"
    r"|(?<=\bBearer )[\w.~+/=-]{12,}"
    r"|(?:(?<=\bAccountKey=)|(?<=\bSharedAccessKey=))[\w+/=]{20,}"  # connection strings of Azure
)
# In an address of any scheme, before the host.
USER_INFO = re.compile(r"(?<=://)[^/\s@]*@")
# The password; or the user's name at a web server, where it may be a token. A database's is none.
CREDENTIALS = re.compile(r"\w://[^/\s@:]*:([^/\s@]+)@|https?://([^/\s@:]+)@")
# `?token=…` of an address, or a later part of a connection string.
PARAMETER = re.compile(r"[?&#;]([\w.-]+)=([^&;#\s'\"<>]+)")
# Parameters of signed addresses whose names are words of other kinds elsewhere.
SIGNED = ("sig", "signature", "x-amz-signature", "x-goog-signature")
HARMLESS = re.compile(r"\d{0,5}|true|false|yes|no|on|off|none|null|auto|\*+", re.IGNORECASE)


def secrets_in(text: str) -> Iterator[tuple[int, int]]:
    """Where secrets begin and end, in no order; they may overlap."""
    yield from (match.span() for match in SHAPES.finditer(text))
    for match in CREDENTIALS.finditer(text):
        yield match.span(1) if match[1] is not None else match.span(2)
    for match in PARAMETER.finditer(text):
        signed = match[1].lower() in SIGNED
        if (signed or is_secrets(match[1])) and not HARMLESS.fullmatch(match[2]):
            yield match.span(2)


def holds_any(text: str) -> bool:
    return next(secrets_in(text), None) is not None
