"""Passwords and tokens: known by their names, by the addresses and variables that hold them.

What the runner records is the configuration, a few variables, and what the engine says. None of it
may hold a secret: a configuration with one is refused, a variable with one is left out, and in the
engine's log it is blotted out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = re.compile(r"(?i)secret|passw|credential|(^|_)token$|(api|access)_?key(_id)?$")
# In an address of any scheme, before the host.
USER_INFO = re.compile(r"(?<=://)[^/\s@]*@")
# The password; or the user's name at a web server, where it may be a token. A database's is none.
CREDENTIALS = re.compile(r"\w://[^/\s@:]*:([^/\s@]+)@|https?://([^/\s@:]+)@")
# Mappings that users fill with names of their own.
NAMED_BY_USERS = ("engine.env", "engine.extra")
# A shorter value is no secret, and may be part of any word.
SHORTEST = 12

INSTEAD = "the configuration is recorded; set it in the environment, which the worker inherits"


def held(variables: Mapping[str, str]) -> dict[str, str]:
    """The secrets in variables, each with the name of one that holds it."""
    found: dict[str, str] = {}
    for name, value in variables.items():
        if NAME.search(name) and not os.path.exists(value):  # a file that holds some
            found[value] = name
        found |= {password or user: name for password, user in CREDENTIALS.findall(value)}
    return {value: name for value, name in found.items() if len(value) >= SHORTEST}


def problems(content: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Each key of a configuration that holds a secret, which is not repeated."""
    known = held(variables)
    return [
        problem for key, value in _leaves(content, "") if (problem := _problem(key, value, known))
    ]


def argument_problems(arguments: Iterable[str], variables: Mapping[str, str]) -> list[str]:
    """The same of a command line, before Hydra writes a sweep's down."""
    known = held(variables)
    found = []
    for argument in arguments:
        key, given, value = argument.lstrip("+~").partition("=")
        if not given:
            continue
        problem = _problem(key, value, known)
        if not problem and key in NAMED_BY_USERS:  # engine.env={HF_TOKEN:…}
            names = (f"{key}.{name}" for name in re.findall(r"([\w.]+)\s*:", value))
            problem = next((said for name in names if (said := _problem(name, "", known))), "")
        if problem:
            found.append(problem)
    return found


def _problem(key: str, value: Any, known: Mapping[str, str]) -> str:
    of_users = key.startswith(tuple(f"{each}." for each in NAMED_BY_USERS))
    if of_users and NAME.search(key.rpartition(".")[2]):
        return f"{key}: looks like a secret, and {INSTEAD}"
    if not isinstance(value, str):
        return ""
    if CREDENTIALS.search(value):
        return f"{key}: holds credentials, and {_elsewhere(key)}"
    source = next((name for secret, name in known.items() if secret in value), None)
    return f"{key}: holds what {source} holds, and {INSTEAD}" if source is not None else ""


def _elsewhere(key: str) -> str:
    if key != "tracking.uri":
        return INSTEAD
    return (
        "the configuration is recorded; use MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or ~/.pgpass for PostgreSQL"
    )


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each, key)
    else:
        yield key, value


def without_user(address: str) -> str:
    """An address that can be shown."""
    return USER_INFO.sub("", address)


def blotted(text: str) -> str:
    """The text, with every secret of this process's variables made unreadable."""
    for secret in held(os.environ):
        text = text.replace(secret, "*" * len(secret))
    return text


def blot(file: Path) -> None:
    """The same in a file, in place: another process may be writing at its end."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        content = stream.read()
        for secret in held(os.environ):
            data = secret.encode()
            for match in re.finditer(re.escape(data), content):
                stream.seek(match.start())
                stream.write(b"*" * len(data))
