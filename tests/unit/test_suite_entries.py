"""What a suite asks for: its files, its mistakes, and the overrides of its entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner.config import loading, places
from runner.config.composition import compose
from runner.config.notify import NotifyConfig
from runner.errors import UserError
from runner.suite import entries
from runner.suite.entries import numbered, overrides_of
from tests.unit.test_cli import left_behind, runner

SHIPPED = ("canary", "release_a2", "smoke")


def read(name: str | None, given: Any) -> dict[str, Any]:
    loading.register()
    return dict(loading.entries_of(OmegaConf.create({"name": name, "entries": given})))


def problems(name: str | None, given: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        read(name, given)
    return caught.value.problems


ONE = {"model": "canary_vl", "task": "canary"}


# Its file


def test_an_entry_is_required_and_has_no_timeout_unless_it_says_so() -> None:
    entry = read("mine", {"a": ONE})["a"]
    assert (entry.tier, entry.timeout, entry.overrides) == ("required", None, [])


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("mine", {}, "suite.entries: a suite needs at least one entry"),
        (None, {"a": ONE}, "suite.name: a value is required"),
        ("../mine", {"a": ONE}, "suite.name=../mine: may have letters"),
        ("mine", {"a b": ONE}, "suite.entries.a b: the name may have letters"),
        ("mine", {"a": {"model": "canary_vl"}}, "suite.entries.a.task: a value is required"),
        ("mine", {"a": {**ONE, "teir": "required"}}, "suite.entries.a.teir: no such key. Did you"),
        ("mine", {"a": {**ONE, "tier": "must"}}, "suite.entries.a.tier=must: must be one of requ"),
        ("mine", {"a": {**ONE, "timeout": 0}}, "suite.entries.a.timeout=0.0: must be a number of"),
        ("mine", {"a": {**ONE, "timeout": "soon"}}, "suite.entries.a.timeout: Value 'soon'"),
        ("mine", {"a": {**ONE, "overrides": "x=1"}}, "suite.entries.a.overrides"),
        ("mine", {"a": "canary_vl"}, "suite.entries.a=canary_vl: must have the form"),
        ("mine", {"a": {**ONE, "overrides": ["model=x"]}}, "suite.entries.a.overrides: model=x: n"),
        ("mine", {"a": {**ONE, "overrides": ["hydra/launcher=ray"]}}, "overrides: hydra/launcher"),
        ("mine", {"a": {**ONE, "overrides": ["preflight_only=true"]}}, "overrides: preflight_only"),
        ("mine", {"a": {**ONE, "overrides": ["++sweep.strict=true"]}}, "overrides: ++sweep.strict"),
        ("mine", {"a": {**ONE, "overrides": ["+sweep/x=y"]}}, "overrides: +sweep/x=y: not"),
        ("mine", {"a": ONE, "b": ONE}, "suite.entries.b: the same model, task and overrides as s"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(name: str | None, given: Any, said: str) -> None:
    (line,) = problems(name, given)
    assert said in line


def test_all_mistakes_are_told_at_once() -> None:
    given = {"a": {**ONE, "tier": "must"}, "b": {**ONE, "timeout": -1}, "c": {**ONE, "x": 1}}
    assert len(problems("mine", {"c": given["c"]})) == 1
    assert len(problems("mine", {"a": given["a"], "b": given["b"]})) == 3  # b repeats a, too


# Its entries' runs


def test_the_command_line_comes_after_the_entry_and_its_timeout() -> None:
    entry = {**ONE, "overrides": ["task.limit=9", "engine.extra.block_size=16"], "timeout": 60}
    (own,) = overrides_of(numbered(read("mine", {"a": entry})), ["suite=mine", "task.limit=4"])
    assert own == [
        *("model=canary_vl", "task=canary", "task.limit=9", "++engine.extra.block_size=16"),
        *(
            "limits.run_s=60.0",
            "suite=mine",
            "task.limit=4",
            "suite.entry=a",
            "suite.tier=required",
        ),
    ]


def test_settings_of_the_suite_are_none_of_its_entries() -> None:
    given = ["suite=mine", "++suite.entries.a.timeout=5", "suite.name=other"]
    (own,) = overrides_of(numbered(read("mine", {"a": ONE})), given)
    assert own == ["model=canary_vl", "task=canary", "suite=mine", "suite.entry=a", own[-1]]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("model=qwen3_8b", "each entry of a suite chooses its own model"),
        ("task=gsm8k", "each entry of a suite chooses its own task"),
        ("parallelism.tp=1,2", "an entry of a suite is one run; give one value"),
        ("sweep=tp_len", "a suite is no sweep"),
    ],
)
def test_what_would_change_the_entries_is_rejected(argument: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        overrides_of(numbered(read("mine", {"a": ONE})), ["suite=mine", argument])
    (line,) = caught.value.problems
    assert line.startswith(argument) and said in line


def test_an_entry_is_one_run() -> None:
    entry = {**ONE, "overrides": ["parallelism.tp=1,2"]}
    with pytest.raises(UserError, match=r"suite\.entries\.a\.overrides: parallelism\.tp=1,2: an e"):
        overrides_of(numbered(read("mine", {"a": entry})), [])


def test_a_suite_that_is_resumed_keeps_its_start_and_its_key(tmp_path: Path) -> None:
    found = numbered(read("mine", {"a": ONE}))
    entries.write(tmp_path / "one", "mine", found, NotifyConfig())
    first = entries.read(tmp_path / "one")
    entries.write(tmp_path / "one", "mine", found, NotifyConfig())
    assert entries.read(tmp_path / "one") == first
    entries.write(tmp_path / "two", "mine", found, NotifyConfig())
    assert first.key and entries.read(tmp_path / "two").key != first.key


# The shipped suites


def test_the_shipped_suites_are_all_tested() -> None:
    assert sorted(each for each in places.choices("suite") if each != "none") == sorted(SHIPPED)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SHIPPED)
def test_every_entry_of_a_shipped_suite_composes(suite: str) -> None:
    chosen = [f"suite={suite}", "tracking=off", "output_dir=here", "engine=cpu"]
    asked = compose(chosen)
    assert asked.suite.name == suite
    found = numbered(loading.entries_of(asked.suite))
    for entry, overrides in zip(found, overrides_of(found, chosen), strict=True):
        config = loading.load(compose(overrides))
        assert (config.suite.entry, config.suite.tier) == (entry.name, entry.tier)
        assert config.model.name == entry.model
        judged = {task for task in config.task.names if task in config.model.baselines}
        assert judged == (set() if suite == "smoke" else set(config.task.names)), entry.name


def test_the_release_suite_has_every_model_with_a_baseline_from_atlas_a2() -> None:
    directory = places.config_directory()
    files = (directory / "model").glob("*.yaml")
    measured = {f.stem for f in files if "hardware: Atlas A2 Series" in f.read_text().split("\n")}
    suite = OmegaConf.load(directory / "suite" / "release_a2.yaml").suite
    assert {each.model for each in suite.entries.values()} == measured


# As a person starts it


def test_help_lists_the_suites_and_shows_one(tmp_path: Path) -> None:
    printed = runner(tmp_path, "--help").stdout
    assert "suite: canary, none, release_a2, smoke\n" in printed
    assert "  python -m runner suite=canary  " in printed


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "own" / "suite").mkdir(parents=True)
    file = tmp_path / "own" / "suite" / "mine.yaml"
    head = (
        "# @package _global_\ndefaults: [override /hydra/sweeper: suite]\nhydra: {mode: MULTIRUN}\n"
    )
    file.write_text(head + "suite: {name: mine, entries: {a: {model: canary_vl, tsak: canary}}}\n")
    where = tmp_path / "here"
    where.mkdir()
    done = runner(where, f"--config-dir={file.parent.parent}", "suite=mine")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: suite.entries.a.tsak: no such key. Did you mean 'task'?" in done.stderr
    assert left_behind(where) in ([], ["suites"])


def test_a_file_without_the_sweeper_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    text = (
        "# @package _global_\nsuite: {name: mine, entries: {a: {model: canary_vl, task: canary}}}\n"
    )
    (tmp_path / "suite" / "mine.yaml").write_text(text)
    composed = compose(["suite=mine", "output_dir=here", "engine=cpu"], tmp_path)
    with pytest.raises(UserError, match=r"suite\.entries: nothing runs them; the file of a suite"):
        loading.load(composed)
