"""Settings as they can be shown to anybody: without directories and variables' values."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.variables import TELLING, may_move

VARIABLES = "engine.env."
ARROW = " → "
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# From the beginning of the first word with a slash to the end of the last one: a directory may have
# any character in its name.
PATH = re.compile(r"""(?:\w+:(?=//))?[^\s=:,'"()\[\]{}]*[/\\].*""", re.DOTALL)
FROM_START = re.compile(r"[/\\~.]|[A-Za-z]:[/\\]|file:")
HOME = re.compile(r"(?:.*/)?(?:home|Users|homes|export/home)/[^/]+|/root|~[^/]*")
SWITCH = re.compile(r"(?i)[-+]?[\d.]+(e[-+]?\d+)?|true|false|on|off|yes|no|none")
NOT_SET = "not set"
LEFT_OUT = "…"


def text(value: str) -> str:
    """Return a setting's value with the last name of each path only; hub ids stay."""
    return _shown(value, 1)


def change(line: str) -> str:
    """Return `key: good → bad` without directories; the sides read differently if they can.

    Of an environment variable, only numbers and such words as `true` are shown.
    """
    key, _, values = line.partition(": ")
    good, arrow, bad = values.partition(ARROW)
    if not arrow or ARROW in bad:
        return f"{key}: {LEFT_OUT if key.startswith(VARIABLES) else text(values)}"
    if key.startswith(VARIABLES):
        good, bad = (_variable(key, each) for each in (good, bad))
    else:
        good, bad = _apart(good, bad)
    return f"{key}: {good}{ARROW}{bad if bad != good else f'another {bad}'}"


def override(word: str) -> str:
    """Return `key=value` without directories and variables' values."""
    key, equals, value = word.partition("=")
    if not equals:
        return word
    name = key.lstrip("+~")
    if name == VARIABLES.rstrip("."):
        return f"{key}={LEFT_OUT}"
    shown = _variable(name, value) if name.startswith(VARIABLES) else text(value.strip("'\""))
    return f"{key}={shown}" if shown != value.strip("'\"") else word


def _variable(key: str, value: str) -> str:
    name = key.removeprefix(VARIABLES)
    known = TELLING.fullmatch(name) and may_move(name) and SWITCH.fullmatch(value.strip("'\""))
    return value if known or value == NOT_SET else LEFT_OUT


def _apart(good: str, bad: str) -> tuple[str, str]:
    """Both values with as few names of their paths as tell them apart."""
    depth = max(each.count("/") + each.count("\\") for each in (good, bad)) + 1
    for names in range(1, depth + 1):
        shown = _shown(good, names), _shown(bad, names)
        if shown[0] != shown[1]:
            return shown
    return text(good), text(bad)


def _shown(value: str, names: int) -> str:
    """A value with the first of the last `names` names of each path, and the last."""
    if value[:1] in ("[", "{") and (found := _structure(value)) is not None:
        return json.dumps(_inside(found, names), ensure_ascii=False)
    if HUB_ID.fullmatch(value) and not Path(value).exists():
        return value
    if FROM_START.match(value) and ("/" in value or "\\" in value or value.startswith("~")):
        return _last(value, names)
    return PATH.sub(lambda match: _last(match[0], names), value)


def _structure(value: str) -> Any:
    """The list or mapping in a text; None if it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _inside(value: Any, names: int) -> Any:
    if isinstance(value, Mapping):
        return {_shown(str(key), names): _inside(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_inside(each, names) for each in value]
    return _shown(value, names) if isinstance(value, str) else value


def _last(path: str, names: int) -> str:
    parts = [each for each in _below_home(path.replace("\\", "/")).split("/") if each]
    if not parts:
        return "~"
    if len(parts) == 1 or names == 1:
        return parts[-1]
    first = parts[-min(names, len(parts))]
    return f"{first}/{parts[-1]}" if names == 2 else f"{first}/{LEFT_OUT}/{parts[-1]}"


def _below_home(path: str) -> str:
    """A path without the home directory, whose name is a person's."""
    path = re.sub(r"^\w+:(?=/)", "", path)
    own = f"{Path.home()}"
    if path == own or path.startswith(f"{own}/"):
        return path.removeprefix(own)
    found = HOME.match(path)
    return path[found.end() :] if found is not None else path
