"""vllm-ascend's nightly and weekly files: served engines that AISBench asks.

Single-node files have a list of cases with one server each (`test_cases`). Multi-node files have
one case, whose servers the test starts on several machines (`deployment`, or `templates`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.adopt import served
from runner.adopt.adopted import DEFAULTS, Adopted, LeftToAnother, model_text
from runner.adopt.benchmarks import Gate, accuracy, dataset_of, gate
from runner.adopt.reading import identity, slug
from runner.adopt.vllm_options import Options, options
from runner.errors import UserError

MULTI_NODE = ("deployment", "templates")
READ = (
    "name", "test_name", "model", "envs", "server_cmd", "server_cmd_extra", "benchmarks",
    # Requests and topology of the test itself.
    "api_keyword_args", "benchmark_comparisons_args", "cluster_hosts", "config", "deployment",
    "disaggregated_prefill", "env_common", "env_decode", "env_prefill", "epd_proxy_args",
    "epd_server_cmds", "expected_response", "kv_pool", "mm_request", "npu_per_node", "num_nodes",
    "prompts", "routing", "service_mode", "templates", "test_content",
)  # fmt: skip
SERIES = re.compile(r"(?:^|[^a-z0-9])(a2|a3|a5|310p)(?![a-z0-9])", re.IGNORECASE)
# Families whose chat template has the switch that the original sends, {"thinking": true}; others
# call it `enable_thinking`.
THINKING = ("deepseek", "kimi")
IMAGES = "/images"


@dataclass(frozen=True)
class Case:
    """One model and what it is asked: all its tasks have images, or none has."""

    name: str
    content: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]
    multi_node: bool

    @property
    def attached(self) -> bool:
        """Whether more runs than one server: processes that this runner does not start."""
        several = self.content.get("service_mode") == "epd" or self.content.get("kv_pool")
        return self.multi_node or bool(several)


def is_nightly(content: Mapping[str, Any]) -> bool:
    """Return whether a file has the layout of a nightly test."""
    return "test_cases" in content or any(key in content for key in MULTI_NODE)


def names(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the cases that measure accuracy."""
    return tuple(case.name for case in _cases(content))


def adopt(file: Path, content: Mapping[str, Any], name: str | None) -> Adopted:
    """Convert a case of the file: the named one, or the only one.

    Raises:
        LeftToAnother: if the file measures no accuracy.
        UserError: with a line for each thing in the case that it cannot mean.
    """
    found = list(_cases(content))
    if not found:
        raise LeftToAnother(
            f"{file.name}: measures no accuracy (no section with case_type=accuracy)"
        )
    chosen = [case for case in found if name in (None, case.name)]
    if len(chosen) != 1:
        said = f"--case={name}: not in {file.name}" if name else f"{file.name}: has several cases"
        raise UserError(f"{said}; use --case with one of {', '.join(case.name for case in found)}")
    return _adopted(file, chosen[0], alone=len(found) == 1)


def _cases(content: Mapping[str, Any]) -> Iterable[Case]:
    listed = content.get("test_cases")
    multi_node = "test_cases" not in content
    for place, each in enumerate(listed if isinstance(listed, list) else [content]):
        if not isinstance(each, dict):
            continue
        name = str(each.get("name") or each.get("test_name") or place)
        sections = accuracy(each.get("benchmarks"))
        seen = {key: section for key, section in sections.items() if _has_images(section)}
        read = {key: section for key, section in sections.items() if key not in seen}
        if read:
            yield Case(name, each, read, multi_node)
        if seen:
            yield Case(name + (IMAGES if read else ""), each, seen, multi_node)


def _has_images(section: Mapping[str, Any]) -> bool:
    dataset = dataset_of(section)
    return dataset is not None and dataset.images


def _adopted(file: Path, case: Case, alone: bool) -> Adopted:
    problems: list[str] = []
    dropped = [
        f"{key}: not applied{_instead(key)}"
        for key in map(str, case.content)
        if key not in READ and not key.startswith("_")  # such a key only holds YAML anchors
    ]
    name = case.content.get("model")
    if not isinstance(name, str) or not name:
        problems.append(f"{case.name}: model={name}: must be a directory or a hub id")
    tasks = _tasks(case, problems, dropped)
    if not tasks and not problems:
        raise UserError(
            f"{file.name}: {case.name}: there is no task for any of its data sets", *dropped
        )
    described = (
        _multi_node(case, problems, dropped) if case.attached else _served(case, problems, dropped)
    )
    if any(each.thinking for each in tasks.values()):
        described |= _thinking(str(name), described)
    described["serve"] = {**described.pop("serve", {}), **_window(tasks.values(), dropped)}
    model = {
        "defaults": DEFAULTS,
        "name": slug(file.stem if alone else case.name),
        "pretrained": name,
        "hub": "modelscope",  # where the original finds weights and tokenizer
        "backend": "vllm-vlm" if any(each.dataset.images for each in tasks.values()) else "vllm",
        **described,
        "ask": {task: each.ask for task, each in tasks.items()},
        **_hardware(f"{file.stem} {case.name}"),
        "source": f"{identity(file)}{'' if alone else f', case {case.name}'}",
        "baselines": {task: _nested(each) for task, each in tasks.items()},
    }
    text = model_text(model, file, problems, _head(case))
    if problems:
        raise UserError(*problems)
    engine = "endpoint" if case.attached else "served"
    return Adopted(str(name), text, tuple(dropped), engine, None if alone else case.name)


def _tasks(case: Case, problems: list[str], dropped: list[str]) -> dict[str, Gate]:
    """The accuracy sections by task."""
    found: dict[str, Gate] = {}
    for name, section in case.sections.items():
        where = f"benchmarks.{name}"
        each = gate(section, where, problems, dropped)
        if each is None:
            continue
        if each.dataset.task in found:
            problems.append(f"{where}: {each.dataset.task} is in another section too; remove one")
        found[each.dataset.task] = each
    return found


def _nested(each: Gate) -> dict[str, dict[str, Any]]:
    metric, name = each.dataset.metric
    return {metric: {name: each.baseline}}


def _served(case: Case, problems: list[str], dropped: list[str]) -> dict[str, Any]:
    """The one server of a single-node case."""
    envs = _mapping(case.content.get("envs"), "envs", problems)
    words = [case.content.get("server_cmd"), case.content.get("server_cmd_extra")]
    given: Options = {}
    for key, command in zip(("server_cmd", "server_cmd_extra"), words, strict=True):
        given |= options(command, envs, key, problems)
    model = served.client_side(given, dropped)
    serve = served.engine_side(given, dropped)
    env = served.variables(envs, "envs", dropped)
    return {**model, "serve": {**serve, **({"env": env} if env else {})}}


def _multi_node(case: Case, problems: list[str], dropped: list[str]) -> dict[str, Any]:
    """What the client must know of servers that are already running, from the first command."""
    nodes = next((case.content[key] for key in MULTI_NODE if key in case.content), None)
    first = nodes[0] if isinstance(nodes, list) and nodes and isinstance(nodes[0], dict) else {}
    command = first.get("server_cmd") or first.get("server_cmd_template")
    epd = case.content.get("epd_server_cmds")
    command = command or (
        epd[-1] if isinstance(epd, list) and epd else case.content.get("server_cmd")
    )
    dropped.append(
        "the servers' layout, options and environment variables: not applied; start the servers "
        "yourself and set engine=endpoint engine.endpoint.url=http://HOST:PORT/v1"
    )
    return served.client_side(options(command, {}, "server_cmd", problems), dropped)


def _thinking(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    if any(family in name.lower() for family in THINKING):
        return {"chat_template_args": {**model.get("chat_template_args", {}), "thinking": True}}
    return {"enable_thinking": True}


def _window(gates: Iterable[Gate], dropped: list[str]) -> dict[str, int]:
    """Concurrent requests: all tasks of a run have the same."""
    sizes = sorted({each.window for each in gates if each.window})
    if len(sizes) > 1:
        dropped.append(
            f"batch_size: differs between the sections; {sizes[0]} is used for all of them; use "
            "engine.window=… for another value"
        )
    return {"window": sizes[0]} if sizes else {}


def _hardware(text: str) -> dict[str, str]:
    """The chip series that the file or the case is named after."""
    series = sorted({found.upper() for found in SERIES.findall(text)})
    return {"hardware": f"Atlas {series[0]} Series"} if len(series) == 1 else {}


def _head(case: Case) -> str:
    how = "engine=served"
    start = ""
    if case.attached:
        how = "engine=endpoint engine.endpoint.url=http://HOST:PORT/v1"
        start = "# Start the servers yourself first: the original starts more than one process.\n"
    return (
        f"{start}# Save this file as DIR/model/NAME.yaml, then run:\n"
        f"#   python -m runner --config-dir DIR {how} model=NAME\n"
    )


def _instead(key: str) -> str:
    return "; install what it names yourself" if key == "special_dependencies" else ""


def _mapping(value: Any, key: str, problems: list[str]) -> dict[str, Any]:
    if value is None or isinstance(value, dict):
        return {str(name): each for name, each in (value or {}).items()}
    problems.append(f"{key}={type(value).__name__}: must be a mapping")
    return {}
