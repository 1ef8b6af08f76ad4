"""The command line of `python -m runner`, before Hydra reads it."""

from __future__ import annotations

import argparse
import importlib.metadata
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser

from runner.config import places
from runner.config.overrides import WINDOWS, settled
from runner.config.usage import meant, suggestion
from runner.errors import UserError

DISTRIBUTION = "ascend-accuracy-runner"
COMMANDS = ("run", "multirun", "cfg", "info", "shell_completion")


def read(arguments: Iterable[str]) -> list[str]:
    """Return the arguments in the order that Hydra needs: all overrides together, then the flags.

    A user's own directory goes to `places.own_directories`, so that it comes before conf/.

    Raises:
        UserError: for what Hydra would misread, or answer with a traceback or a page of usage.
    """
    given = list(arguments)
    for each in given:
        if each.startswith("-") and each.endswith("\r"):
            raise UserError(f"{each.rstrip()}: {WINDOWS}")
    options = parsed(given)
    overrides, directory = options.pop("overrides"), options.pop("config_dir")
    chosen = {name: value for name, value in options.items() if value not in (None, False)}
    _refuse_options(chosen)
    if directory is not None:
        own = places.own_directory(directory)
        primary = own / f"{places.CONFIG_NAME}.yaml"
        if "config_name" not in chosen and primary.is_file():
            raise UserError(
                f"{primary}: would replace the runner's own configuration; give the file another "
                "name, or choose it with --config-name"
            )
        places.own_directories[:] = [own]
    flags = []
    for name, value in chosen.items():
        flag = f"--{name.replace('_', '-')}"
        flags.append(flag if value is True else f"{flag}={value}")
    return [*settled(overrides), *flags]


def parsed(arguments: Iterable[str]) -> dict[str, Any]:
    """Return Hydra's options and the overrides by the names that its parser gives them.

    Raises:
        UserError: for an option that there is not.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    for action in parser._actions:
        if isinstance(action, argparse._VersionAction):  # else it is Hydra's version
            action.version = f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}"
    return vars(parser.parse_intermixed_args(list(arguments)))


def _refuse(message: str) -> NoReturn:
    """Raise argparse's error, with a suggestion for the intended option."""
    unknown = re.search(r"unrecognized arguments: (\S+)", message)
    if unknown is None:
        raise UserError(message.removeprefix("argument "))
    option = unknown[1].partition("=")[0]
    name = option.strip("-").replace("-", "_")
    if name in places.ASIDE:
        raise UserError(f"{option}: {places.ASIDE[name]}")
    setting = name if places.is_group(name) else meant(name)
    if setting:
        raise UserError(f"{option}: no such option; settings are written key=value: {setting}=…")
    known = tuple(each for action in get_args_parser()._actions for each in action.option_strings)
    raise UserError(
        f"{option}: no such option.{suggestion(option, known)} Settings are written key=value (see "
        "python -m runner --help)"
    )


def _refuse_options(chosen: dict[str, object]) -> None:
    if "experimental_rerun" in chosen:
        raise UserError(
            "--experimental-rerun: not supported, because it would load a pickle, which can run "
            "code; run the command in the run's command.txt again"
        )
    commands = [f"--{name.replace('_', '-')}" for name in COMMANDS if name in chosen]
    if len(commands) > 1:
        raise UserError(f"{' '.join(commands)}: use only one of them")
    if "resolve" in chosen and not {"cfg", "help"} & set(chosen):
        raise UserError("--resolve: only works together with --cfg or --help")
    if "resolve" in chosen and chosen.get("cfg") == "hydra":
        raise UserError(
            "--cfg hydra --resolve: Hydra's settings refer to the run's settings, which --cfg "
            "hydra does not show; use --cfg all --resolve"
        )
