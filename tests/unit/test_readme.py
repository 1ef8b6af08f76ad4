"""What README and docs promise: commands compose, files exist, examples are whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest

from runner.config import composition, loading
from runner.config.overrides import opened
from runner.config.schema import RunConfig

PROJECT = Path(__file__).parent.parent.parent
README = (PROJECT / "README.md").read_text()
# Pages of docs/ whose commands can be composed as they are.
COMMANDS = ("howto.md", "serving.md", "tasks.md", "why.md")
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def _commands() -> list[list[str]]:
    pages = README + "".join((PROJECT / "docs" / name).read_text() for name in COMMANDS)
    pages = re.sub(r"\\\n *", "", pages)  # a command over several lines
    lines = re.findall(r"^python -m runner ([^#\n`]*[^#\n` ])", pages, re.MULTILINE)
    lines += re.findall(r"`python -m runner ([^`]+)`", README)
    return [shlex.split(line) for line in lines if not line.startswith("--help")]


def test_readme_names_commands() -> None:
    assert len(_commands()) >= 6


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_command_in_the_readme_composes(
    words: list[str], compose: Callable[..., RunConfig]
) -> None:
    swept = re.compile(r"^([\w.]+)=([\w.:/]+)(,[\w.:/]+)+$")
    overrides = [swept.sub(r"\1=\2", opened(word)) for word in words if not word.startswith("--")]
    if any(word.startswith("suite=") for word in words):  # test_suite_entries.py has its entries
        assert loading.entries_of(composition.compose(overrides).suite)
    else:
        assert compose(*overrides).model.name


def test_the_readmes_model_file_works_from_a_directory_of_ones_own(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "my_model.yaml").write_text(found.group(1))
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "arc_easy.yaml").write_text("names: [arc_easy]\n")
    loading.register()
    search = f"hydra.searchpath=[file://{tmp_path}]"
    directory = str(loading.config_directory())
    with hydra.initialize_config_dir(directory, version_base="1.3"):
        own = loading.load(hydra.compose("config", [search, "model=my_model", "tracking=off"]))
        other = loading.load(
            hydra.compose("config", [search, "model=my_model", "task=arc_easy", "tracking=off"])
        )
    assert own.task.names == ["gsm8k"]
    assert own.parallelism.tp == 2
    assert own.engine.max_model_len == 4096
    assert own.model.baselines["gsm8k"]["exact_match"]["strict-match"].value == 0.80
    assert other.task.names == ["arc_easy"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
