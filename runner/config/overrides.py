"""Translate overrides as users write them to Hydra's grammar; reject the ambiguous ones."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from runner import secrecy
from runner.config import places
from runner.errors import UserError

# Mappings that a user fills: a new key in them needs no plus sign.
OPEN_MAPPINGS = re.compile(
    r"(engine\.(extra|env|additional_config|endpoint\.headers)|task\.gen_kwargs"
    r"|model\.(baselines|by_series|ask|chat_template_args|serve\.(extra|env|additional_config))"
    r"|verdict\.(metrics|replay\.questions)|suite\.entries)[.=]"
)
# An element of a list, or a key or a value of a mapping, that is not in quotes.
TEXT = re.compile(r"""(?<=[\[{,:])[^\[\]{},:"']+(?=[\]},:])""")
# Groups whose files make no sense one over the other, as Hydra would lay them, and what does.
ONE_CHOICE = {
    "task": "list the lm-eval tasks: task.names=[gsm8k,ceval-valid]",
    "model": "to run one after the other: --multirun model=NAME,NAME",
    "suite": "run one suite after the other",
}
# Choices that turn a group off.
OFF = ("off", "none")
WINDOWS = (
    "ends in a carriage return: your script has Windows line endings; convert it with dos2unix"
)


def settled(overrides: Iterable[str]) -> list[str]:
    """Return each override in the form that Hydra accepts.

    Raises:
        UserError: for what Hydra would misread, write down or answer with a traceback.
    """
    given = list(overrides)
    if problems := secrecy.argument_problems(given, os.environ):
        raise UserError(*problems)
    known = [opened(each) for each in given]
    parser = OverridesParser.create()
    for each in known:
        try:
            problem = _problem(parser.parse_overrides([each])[0])
        except OverrideParseException as error:
            problem = _unreadable(each, str(error))
        if problem:
            raise UserError(problem)
    return known


def written(overrides: Any) -> list[str]:
    """Return Hydra's recorded overrides as typed, without resolving ${…}."""
    found = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(found, list)
    return [str(each) for each in found]


def opened(override: str) -> str:
    """Prefix keys of open mappings with `++`, and turn lm-eval's `acc,none` into `acc.none`."""
    key, equals, value = override.partition("=")
    override = f"{key.replace(',', '.')}{equals}{value}" if equals else override
    return f"++{override}" if OPEN_MAPPINGS.match(override) else override


def quoted(text: str) -> str:
    """Quote a text so that Hydra's override grammar reads it as one value."""
    # Backslashes are themselves, but for those before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def unescaped(value: str) -> str:
    """The value as it was meant: Hydra's sweepers write `http\\://host\\:8000`."""
    return re.sub(r"\\(.)", r"\1", value)


def in_yaml(value: Any) -> str:
    """Format a value as in YAML and on the command line: null, not None."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _problem(override: Override) -> str:
    """Of what Hydra reads but does not answer in one message."""
    said, key = str(override.input_line), str(override.key_or_group)
    if not key:
        return f"{said}: the key is missing; write key=value"
    if key in places.ASIDE:
        return f"{said}: {places.ASIDE[key]}"
    if not places.is_group(key):
        return ""
    choices = places.choices(key)
    off = next((name for name in OFF if name in choices), None)
    hint = f"; {key}={off} turns it off" if off else ""
    known = f". Known: {', '.join(choices)}" if choices else ""
    if override.is_add() or override.is_force_add():
        return f"{said}: the group already has a choice; remove the +: {said.lstrip('+')}"
    if override.is_delete():
        return f"{said}: a group cannot be removed{hint}{known}"
    value = override.value()
    if key in ONE_CHOICE and isinstance(value, list):
        return f"{said}: choices of {key} cannot be combined; {ONE_CHOICE[key]}"
    if isinstance(value, Sweep):
        values = getattr(value, "list", [])
    else:
        values = [value] if not isinstance(value, list) else value
    if any(each is None for each in values):
        return f"{said}: null is not a choice{hint}{known}"
    return ""


def _unreadable(said: str, why: str) -> str:
    """What the grammar cannot read, with a spelling that it can where there is one."""
    if said.startswith("++") and OPEN_MAPPINGS.match(said[2:]):
        said = said[2:]
    if said.endswith("\r"):
        return f"{said.rstrip()}: {WINDOWS}"
    key, equals, value = said.partition("=")
    if not equals:
        return f"{said}: not a setting; write key=value"
    if any(value.count(opening) != value.count(closing) for opening, closing in ("[]", "{}")):
        return f"{said}: a bracket in the value is not closed"
    if OPEN_MAPPINGS.match(f"{key}.") and re.match(r"[\w.]+=", value):
        return f"{said}: contains more than one =; write {key}.{value}"
    inside = value[:1] in ("[", "{")
    spelling = TEXT.sub(lambda found: _in_quotes(found[0]), value) if inside else _in_quotes(value)
    if not _readable(f"{key}={spelling}"):
        return f"{said}: cannot be parsed as key=value ({why.partition(chr(10))[0]})"
    text = "the text in the value" if inside else "the value"
    return f"{said}: put {text} in quotes, inside the shell's quotes: {_in_shell(key, spelling)}"


def _in_quotes(text: str) -> str:
    return quoted(text) if set(text) & {'"', "\\"} else f'"{text}"'


def _in_shell(key: str, value: str) -> str:
    return shlex.quote(f"{key}={value}")


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return False
    return True
