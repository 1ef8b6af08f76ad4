"""`vllm serve` takes the arguments of every shipped model on every Ascend engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.config.places import config_directory
from runner.platforms.cpu import Cpu
from tests.e2e.conftest import environment

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
# Composed and parsed in one process that imports vLLM as a worker does. Weights are not read.
CODE = """
import json, sys
import hydra
from runner.config import loading
from runner.errors import UserError
from runner.runtimes import runtime_of
from runner.runtimes.server.arguments import serve_arguments

loading.register()
found = {}
with hydra.initialize_config_dir(str(loading.config_directory()), version_base="1.3"):
    for choice in json.loads(sys.argv[1]):
        config = loading.load(
            hydra.compose("config", [*choice, "engine.runtime=server", "tracking=off"])
        )
        arguments = runtime_of("server").arguments(config)
        del arguments["server"]
        try:
            found[" ".join(choice)] = serve_arguments(arguments)
        except UserError as error:
            found[" ".join(choice)] = "; ".join(error.problems)
print("found: " + json.dumps(found))
"""


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (config_directory() / group).glob("*.yaml"))


CHOICES = [
    [f"engine={engine}", f"model={model}", "parallelism.dp=2"]
    for engine in names("engine")
    if engine.startswith("ascend")
    for model in names("model")
    if model != "any"
]


@pytest.fixture(scope="module")
def found() -> dict[str, list[str] | str]:
    variables = environment()
    ended = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(CHOICES)],
        env={**variables, **Cpu().worker_environment(1, variables, eager=True)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (line,) = (each for each in ended.stdout.splitlines() if each.startswith("found: "))
    answers: dict[str, list[str] | str] = json.loads(line.removeprefix("found: "))
    return answers


def test_every_ascend_preset_can_be_served(found: dict[str, list[str] | str]) -> None:
    assert len(found) == len(CHOICES) > 80
    assert {choice: said for choice, said in found.items() if isinstance(said, str)} == {}
    assert all("--data-parallel-size=2" in words for words in found.values())


def test_options_of_an_engine_reach_the_server(found: dict[str, list[str] | str]) -> None:
    words = found["engine=ascend_batch_invariant model=qwen3_8b parallelism.dp=2"]
    assert '--compilation-config={"cudagraph_mode": "PIECEWISE"}' in words
    words = found["engine=ascend_eager model=qwen3_8b parallelism.dp=2"]
    assert "--enforce-eager" in words
