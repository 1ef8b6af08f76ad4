"""Engine arguments as the command line of `vllm serve`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from runner.config.usage import suggestion
from runner.errors import UserError
from runner.runtimes.vllm.arguments import LM_EVAL_ARGUMENTS

# The name that lm-eval's classes give to an adapter.
ADAPTER = "finetuned"
# Arguments about the server's place and its network, which the runner decides.
OURS = (
    "api_key",
    "config",
    "data_parallel_external_lb",
    "data_parallel_hybrid_lb",
    "data_parallel_multi_port_external_lb",
    "data_parallel_rank",
    "data_parallel_start_rank",
    "grpc",
    "headless",
    "host",
    "model_tag",
    "port",
    "root_path",
    "served_model_name",
    "ssl_certfile",
    "ssl_keyfile",
    "uds",
)
# A line for each request would bury the engine's own messages in its log.
DEFAULTS = {"disable_uvicorn_access_log": True}


def serve_arguments(engine: Mapping[str, Any]) -> list[str]:
    """The arguments of `vllm serve` for the same engine in a server.

    `engine` are the arguments of `vllm.LLM`, and perhaps of lm-eval's class around it. An argument
    that is None is left out, as its default applies.

    Raises:
        UserError: for arguments that `vllm serve` does not have or rejects.
    """
    parser, validate = _parser()
    actions = {action.dest: action for action in parser._actions}
    asked = {k: v for k, v in {**DEFAULTS, **_of_server(engine)}.items() if v is not None}
    known = tuple(sorted(actions.keys() - {*OURS, "help"}))
    if unknown := [name for name in asked if name not in known]:
        raise UserError(*(_unknown(name, known) for name in unknown))
    weights = asked.pop("model")
    flags = [flag for name, value in asked.items() for flag in _flags(actions[name], value)]
    arguments = [str(weights), *flags]
    parsed = parser.parse_args(arguments)
    try:
        validate(parsed)
    except Exception as error:  # vLLM's classes differ from version to version
        _reject(str(error))
    return arguments


def _parser() -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], None]]:
    """The parser of `vllm serve`, and the function that checks what it has parsed."""
    try:
        from vllm.entrypoints.launchers import cli_args
    except ImportError:  # up to vLLM 0.31
        from vllm.entrypoints.openai import cli_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser: argparse.ArgumentParser = cli_args.make_arg_parser(FlexibleArgumentParser())
    parser.error = _reject  # type: ignore[method-assign]
    return parser, cli_args.validate_parsed_serve_args


def _of_server(engine: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the server's own names."""
    adapter = engine.get("lora_local_path")
    found = {name: value for name, value in engine.items() if name not in LM_EVAL_ARGUMENTS}
    found["model"] = engine.get("model") or engine["pretrained"]
    if adapter:
        module = json.dumps({"name": ADAPTER, "path": str(adapter)})
        found |= {"enable_lora": True, "lora_modules": [module]}
    return found


def _unknown(name: str, known: tuple[str, ...]) -> str:
    if name in OURS:
        return f"engine.extra.{name}: the runner sets this argument of vllm serve itself"
    return f"engine.extra.{name}: vllm serve has no such argument.{suggestion(name, known)}"


def _flags(action: argparse.Action, value: Any) -> Iterator[str]:
    """A setting as one or more words of a command line."""
    option = next(each for each in action.option_strings if each.startswith("--"))
    if action.nargs == 0:
        if value:
            yield option
        elif isinstance(action, argparse.BooleanOptionalAction):
            yield option.replace("--", "--no-", 1)
    elif isinstance(value, list | tuple) and action.nargs == "+":
        yield from (option, *map(str, value))
    else:
        structured = isinstance(value, dict | list | tuple)
        yield f"{option}={json.dumps(value) if structured else value}"


def _reject(message: str) -> NoReturn:
    words = " ".join(re.sub(r"For further information visit \S+", "", message).split())
    raise UserError(f"engine.extra: vllm serve rejects its arguments: {words}")
