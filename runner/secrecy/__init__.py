"""No secret is recorded: it is refused in a configuration, left out or blotted in what is written.

What the runner records is the configuration, a few variables, and what the engine says. A secret is
known by its name (names.py), by its shape or place in a text (values.py), or as the value of a
variable that has such a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.secrecy.names import is_secrets
from runner.secrecy.values import HARMLESS, USER_INFO, holds_any, secrets_in

# A shorter value may be part of any word.
SHORTEST, SHORTEST_WORD = 8, 12

__all__ = [
    "argument_problems",
    "blot",
    "blotted",
    "held",
    "holds_any",
    "names_secret",
    "problems",
    "shown_address",
]

INSTEAD = (
    "the configuration is recorded; set it as an environment variable, which the worker inherits"
)


def held(variables: Mapping[str, str]) -> dict[str, str]:
    """The secrets in variables, each with the name of one that holds it."""
    found: dict[str, str] = {}
    for name, value in variables.items():
        if names_secret(name, value):
            found[value] = name
        found |= {value[start:end]: name for start, end in secrets_in(value)}
    return {
        value: name
        for value, name in found.items()
        if len(value) >= (SHORTEST_WORD if value.isalpha() else SHORTEST)
    }


def names_secret(name: str, value: Any) -> bool:
    """Whether the name is a secret's and the value can be one; a file that holds some is none."""
    return (
        isinstance(value, str)
        and is_secrets(name)
        and not HARMLESS.fullmatch(value)
        and not os.path.exists(value)
    )


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
        pairs = [(key, value)]
        if "{" in value:  # engine.env={HF_TOKEN:…}
            inner = (each.partition(":") for each in value.strip("{} ").split(","))
            pairs += [(f"{key}.{name.strip()}", text.strip()) for name, _, text in inner]
        found += [said for name, text in pairs if (said := _problem(name, text, known))][:1]
    return found


def _problem(key: str, value: Any, known: Mapping[str, str]) -> str:
    if not isinstance(value, str):
        return ""
    if names_secret(key.rpartition(".")[2], value):
        return f"{key}: looks like a secret, but {INSTEAD}"
    if holds_any(value):
        return f"{key}: contains credentials, but {_elsewhere(key)}"
    source = next((name for secret, name in known.items() if secret in value), None)
    return f"{key}: contains the value of {source}, but {INSTEAD}" if source is not None else ""


def _elsewhere(key: str) -> str:
    if key != "tracking.uri":
        return INSTEAD
    return (
        "the configuration is recorded; use MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), or ~/.pgpass for PostgreSQL"
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


def shown_address(address: str) -> str:
    """An address without its user, and with its secret parameters made unreadable."""
    return _without(USER_INFO.sub("", address), ())


def blotted(text: str) -> str:
    """The text, with every secret in it made unreadable: those of this process's variables too."""
    return _without(text, held(os.environ))


def blot(file: Path) -> None:
    """The same in a file, in place: another process may be writing at its end."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        content = stream.read().decode("latin-1")  # a character a byte
        known = [secret.encode().decode("latin-1") for secret in held(os.environ)]
        for start, end in _found(content, known):
            stream.seek(start)
            stream.write(b"*" * (end - start))


def _without(text: str, known: Iterable[str]) -> str:
    for start, end in list(_found(text, known)):
        text = f"{text[:start]}{'*' * (end - start)}{text[end:]}"
    return text


def _found(text: str, known: Iterable[str]) -> Iterator[tuple[int, int]]:
    yield from secrets_in(text)
    for secret in known:
        yield from (match.span() for match in re.finditer(re.escape(secret), text))
