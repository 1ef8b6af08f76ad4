"""What a run's directory keeps of how it was asked for: a command that asks the same again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.config import command_line, loading, places
from runner.config.composed import command, composed_point
from runner.config.overrides import settled
from runner.rundir import RunDirectory

NEUTRAL = ("engine=cpu", "tracking=off")


@pytest.fixture(autouse=True)
def nobodys_directory() -> Iterator[None]:
    yield
    places.own_directories.clear()


def composed(*words: str) -> tuple[DictConfig, Any]:
    """A run's configuration and Hydra's, as `python -m runner` composes them from the words."""
    loading.register()
    with hydra.initialize_config_dir(str(places.config_directory()), version_base="1.3"):
        config = hydra.compose("config", list(words), return_hydra_config=True)
    own = config.hydra
    with open_dict(config):
        del config["hydra"]
    return config, own


def test_the_command_of_a_point_composes_the_same(tmp_path: Path) -> None:
    own = tmp_path / "it's mine"
    for group, text in {
        "model": "name: mine\npretrained: ${oc.env:HOME}\nbackend: vllm\n",
        "sweep": "# @package _global_\nhydra:\n  mode: MULTIRUN\n",
    }.items():
        (own / group).mkdir(parents=True)
        (own / group / "mine.yaml").write_text(text)
    command_line.read(["--config-dir", str(own)])
    written = [*NEUTRAL, "output_dir=/run", "sweep=mine", "model=mine", "task.names=[a,b]"]
    written += ["task.system_instruction='$x \\'\"你好'", "engine.extra.block_size=16"]
    overrides = settled(written)
    config, its = composed(*overrides)
    point = composed_point(config, its, overrides)
    place, typed = point.command.splitlines()
    assert place == f"cd {shlex.quote(str(Path.cwd()))}"
    words = shlex.split(typed)
    assert words[:3] == ["python", "-m", "runner"]
    assert "hydra.mode=RUN" in words  # or the choice of sweep= would start all of it
    places.own_directories.clear()
    again = command_line.read(words[3:])
    assert places.own_directories == [own]
    once_more = composed_point(*composed(*again), overrides=again)
    assert once_more.yaml == point.yaml


def test_the_record_of_hydra_is_that_of_its_applications(tmp_path: Path) -> None:
    config, its = composed(*NEUTRAL, "task.limit=5")
    point = composed_point(config, its, ["task.limit=5"])
    point.write(RunDirectory(tmp_path))
    assert {each.name for each in tmp_path.iterdir()} == {"config.yaml", "command.txt", ".hydra"}
    files = {each.name: OmegaConf.load(each) for each in (tmp_path / ".hydra").iterdir()}
    assert files["overrides.yaml"] == [*NEUTRAL, "task.limit=5"]
    assert files["config.yaml"].task.limit == 5
    assert files["hydra.yaml"].hydra.runtime.choices.engine == "cpu"
    unresolved = OmegaConf.to_container(files["config.yaml"], resolve=False)
    assert unresolved["parallelism"]["tp"] == "${model.serve.tp}"  # type: ignore[index,call-overload]


def test_a_command_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    said = command(["python", "-m", "runner", "model.name=hf_0123456789abcdef"], "/a b")
    assert said.startswith("cd '/a b'\npython -m runner model.name=")
    assert "hf_0123456789abcdef" not in said
