"""Read the words of a `vllm serve` command, without vLLM."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

# Options with one dash, read in vLLM 0.32 (vllm/engine/arg_utils.py).
SHORT = {
    "-tp": "tensor_parallel_size",
    "-pp": "pipeline_parallel_size",
    "-dp": "data_parallel_size",
    "-dcp": "decode_context_parallel_size",
    "-pcp": "prefill_context_parallel_size",
    "-ep": "enable_expert_parallel",
    "-q": "quantization",
    "-ac": "attention_config",
    "-cc": "compilation_config",
    "-sc": "speculative_config",
}
OPTION = re.compile(r"--?[A-Za-z]")
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")

Options = dict[str, Any]


def options(command: Any, variables: Mapping[str, Any], where: str, problems: list[str]) -> Options:
    """Return the options of a command by their name in Python, with values as JSON reads them.

    `command` is a list of words or one text; `$NAME` becomes the value of that variable.
    Positional words are left out. An option without a value is true, and `--no-NAME` false.
    """
    found: Options = {}
    for option, values in _grouped(_words(command, where, problems), variables):
        name, *inner = _name(option, where, problems)
        if not name:
            continue
        value = _value(name, values, where, problems)
        if name.startswith("no_") and not values:
            name, value = name.removeprefix("no_"), False
        place = found
        for key in inner:  # --compilation-config.cudagraph_mode NONE
            below = place.get(name)
            place[name] = below if isinstance(below, dict) else {}
            place, name = place[name], key
        place[name] = value
    return found


def _words(command: Any, where: str, problems: list[str]) -> list[str]:
    if isinstance(command, list):
        return [str(word) for word in command]
    try:
        return shlex.split(str(command or ""))
    except ValueError as error:
        problems.append(f"{where}: not a command line: {error}")
        return []


def _grouped(words: Iterable[str], variables: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """Each option with the words that follow it."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if OPTION.match(word):
            option, equals, value = word.strip().partition("=")
            found.append((option, [expanded(value, variables)] if equals else []))
        elif found:
            found[-1][1].append(expanded(word, variables))
    return found


def expanded(text: str, variables: Mapping[str, Any]) -> str:
    """Return the text with the values of known variables in place of `$NAME` and `${NAME}`."""
    return VARIABLE.sub(lambda found: str(variables.get(found[1] or found[2], found[0])), text)


def _name(option: str, where: str, problems: list[str]) -> list[str]:
    long, *inner = option.split(".")
    if long.startswith("--"):
        return [long.removeprefix("--").replace("-", "_"), *inner]
    if long not in SHORT:
        problems.append(f"{where}: {long}: unknown; use the option's long name")
    return [SHORT.get(long, ""), *inner]


def _value(name: str, values: list[str], where: str, problems: list[str]) -> Any:
    read = []
    for text in values:
        try:
            read.append(json.loads(text))
        except ValueError:
            read.append(text)
            if text.lstrip().startswith(("{", "[")):
                problems.append(f"{where}: --{name.replace('_', '-')}: not valid JSON")
    if not read:
        return True
    return read if len(read) > 1 else read[0]
