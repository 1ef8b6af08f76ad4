"""Adapters, draft models and templates are known by their content, not by their paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.inputs.paths import by_content, contents, local_paths


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_model.safetensors").write_bytes(b"weights")
    return directory


def test_paths_are_found_wherever_they_are_nested(adapter: Path) -> None:
    template = adapter / "template.jinja"
    template.write_text("{{ x }}")
    settings = {
        "lora_local_path": str(adapter),
        "block_size": 64,
        "speculative_config": {"model": str(adapter), "method": "eagle", "more": [str(template)]},
        "load_format": "auto",
        "draft": "org/name",
        "empty": "",
    }
    assert set(local_paths(settings)) == {str(adapter), str(template)}


@pytest.mark.parametrize(
    "key", ["download_dir", "cache_dir", "torch_profiler_dir", "debug_dump_path", "offload_folder"]
)
def test_where_something_is_put_is_no_input(adapter: Path, key: str) -> None:
    assert contents({key: str(adapter), "below": {key: str(adapter)}}) == {}


def test_the_same_wherever_it_lies(adapter: Path) -> None:
    moved = adapter.rename(adapter.with_name("moved"))
    (adapter.with_name("copy")).mkdir()
    (adapter.with_name("copy") / "adapter_model.safetensors").write_bytes(b"weights")
    places = [{"lora_local_path": str(each)} for each in (moved, adapter.with_name("copy"))]
    one, other = (by_content(each, contents(each)) for each in places)
    assert one == other


def test_a_retrained_adapter_is_another(adapter: Path) -> None:
    settings = {"x": [{"lora_local_path": str(adapter)}]}
    before = by_content(settings, contents(settings))
    (adapter / "adapter_model.safetensors").write_bytes(b"WEIGHTS")
    assert by_content(settings, contents(settings)) != before


def test_what_names_nothing_here_stays() -> None:
    settings = {"a": ["auto", 1, None, {"b": True}]}
    assert by_content(settings, contents(settings)) == settings


def test_a_path_in_the_home_directory(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(adapter.parent))
    assert contents({"x": "~/adapter"}) == {
        "~/adapter": contents({"x": str(adapter)})[str(adapter)]
    }
