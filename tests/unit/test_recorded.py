"""A recorded configuration runs again as it was, or with changes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner.config import recorded
from runner.config.composed import Composed
from runner.config.composition import compose
from runner.config.recorded import ABSENT
from runner.errors import UserError
from runner.rundir import RunDirectory

CHANGES = {
    "engine.dtype": "bfloat16",
    "engine.extra.max_num_seqs": 8,
    "engine.extra.compilation_config": {"mode": 0, "splitting_ops": ["a b", "c"]},
    "engine.env.FLAG": "1",
    "engine.env.TEXT": "it's \"so\", isn't it = {x: [1]}",
    "engine.env.VLLM_CPU_KVCACHE_SPACE": ABSENT,
    "engine.window": None,
    "task.names": ["canary_shape"],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with the files that a run of the canary records."""
    words = ["python", "-m", "runner", "model=canary_vl", "task.limit=5"]
    tree = compose([*words[3:], f"output_dir={tmp_path}"])
    files = RunDirectory(tmp_path)
    Composed(
        OmegaConf.to_yaml(tree, resolve=True),
        f"cd /some/where\n{shlex.join([*words, f'output_dir={tmp_path}'])}\n",
    ).write(files)
    return tmp_path


def _plain(yaml: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(yaml))


def test_without_changes_it_is_the_same_run(run: Path) -> None:
    config, composed = recorded.again(recorded.read(run), {})
    assert composed.yaml == RunDirectory(run).config.read_text()
    assert composed.command == RunDirectory(run).command.read_text()
    assert (config.task.limit, config.engine.dtype) == (5, "float32")


def test_changes_reach_the_configuration(run: Path) -> None:
    config, _ = recorded.again(recorded.read(run), CHANGES)
    assert config.engine.dtype == "bfloat16"
    assert config.engine.extra["max_num_seqs"] == 8
    assert "VLLM_CPU_KVCACHE_SPACE" not in config.engine.env
    assert config.engine.env["TEXT"] == CHANGES["engine.env.TEXT"]


def test_the_recorded_configuration_stays_as_it_was(run: Path) -> None:
    found = recorded.read(run)
    recorded.again(found, CHANGES)
    assert found.value("engine.dtype") == "float32"
    assert found.value("engine.extra.max_num_seqs") is ABSENT


def test_its_command_composes_the_same_configuration(run: Path) -> None:
    _, composed = recorded.again(recorded.read(run), CHANGES)
    move, call = composed.command.splitlines()
    assert move == "cd /some/where"
    tree = compose(shlex.split(call)[3:])
    again = _plain(OmegaConf.to_yaml(tree, resolve=True))
    assert again == _plain(composed.yaml)


def test_a_wrong_value_is_one_message(run: Path) -> None:
    with pytest.raises(UserError, match=r"parallelism\.tp"):
        recorded.again(recorded.read(run), {"parallelism.tp": "two"})


@pytest.mark.parametrize("content", [None, "- a\n- b\n", "a: [", b"\xff\xfe"])
def test_what_is_no_configuration_is_named(tmp_path: Path, content: str | bytes | None) -> None:
    if isinstance(content, bytes):
        (tmp_path / "config.yaml").write_bytes(content)
    elif content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        recorded.read(tmp_path)


def test_a_run_without_a_command_gets_one(run: Path) -> None:
    RunDirectory(run).command.unlink()
    _, composed = recorded.again(recorded.read(run), {"engine.dtype": "bfloat16"})
    assert composed.command.splitlines()[1] == "python -m runner engine.dtype=bfloat16"
