"""ModelScope's own client against a ModelScope on loopback; where the package is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.hubs import modelscope as hub_client
from runner.inputs import manifest, sources
from runner.inputs.weights import find_weights
from runner.prepare import __main__ as prepare
from tests.modelscope import ModelScope

pytestmark = pytest.mark.slow

client = pytest.importorskip("modelscope_hub", reason="the package modelscope is not installed")

MODEL, ELSEWHERE, QUESTIONS = "owner/Some-1.5B", "Owner/Some-1.5B-W8A8", "owner/questions"
FILES = {
    "config.json": b'{"num_attention_heads": 4}',
    "model.safetensors": os.urandom(300_000),
    "pytorch_model.bin": bytes(1000),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModelScope]:
    with ModelScope(models={ELSEWHERE: dict(FILES)}) as hub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        client.set_default_config(client.HubConfig())  # it reads the variables once a process
        yield hub


def overrides(directory: Path) -> list[str]:
    return [
        *("model=qwen3_8b", f"model.pretrained={MODEL}", f"model.modelscope={ELSEWHERE}"),
        *("engine=cpu", f"source.dir={directory}"),
    ]


def run(directory: Path) -> int:
    chosen = ["source.weights=modelscope", "source.data=local"]
    return prepare.main([*overrides(directory), *chosen])


def test_weights_are_fetched_under_the_name_that_a_run_looks_for(
    hub: ModelScope, tmp_path: Path, compose: Callable[..., RunConfig]
) -> None:
    assert run(tmp_path / "carried") == 0
    listed = manifest.read(tmp_path / "carried")
    assert listed is not None
    (repository,) = listed.repositories
    assert (repository.id, repository.hub) == (ELSEWHERE, "modelscope")
    assert repository.directory == f"weights/{MODEL}"
    assert {file.path for file in repository.files} == {"config.json", "model.safetensors"}
    config = compose(*overrides(tmp_path / "carried"), "source.weights=local")
    found = sources.find(config)
    assert found.pretrained == str(tmp_path / "carried" / "weights" / MODEL)
    sources.verify(config, found, lambda line: None)


def test_a_cut_connection_is_resumed(hub: ModelScope, tmp_path: Path) -> None:
    hub.cuts["model.safetensors"] = 2
    assert run(tmp_path / "carried") == 0
    file = tmp_path / "carried" / "weights" / MODEL / "model.safetensors"
    assert file.read_bytes() == FILES["model.safetensors"]


def test_other_content_is_refused(
    hub: ModelScope, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.other.add("model.safetensors")
    assert run(tmp_path / "carried") == 1
    assert "error: model.pretrained=" in capsys.readouterr().err
    assert not (tmp_path / "carried" / "weights" / MODEL / "model.safetensors").exists()
    assert manifest.read(tmp_path / "carried") is None


def test_no_such_model(hub: ModelScope, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.models.clear()
    assert run(tmp_path / "carried") == 1
    said = capsys.readouterr().err
    assert f"model.pretrained={ELSEWHERE}: the request to ModelScope failed (NotExistError" in said


def test_a_run_looks_at_the_model_there(
    hub: ModelScope, compose: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = compose(*overrides(tmp_path)[:-1], "source.weights=modelscope")
    settled = sources.settled(config, sources.find(config))
    weights = find_weights(settled)
    assert weights.directory is None
    assert weights.config == {"num_attention_heads": 4}
    assert weights.stored_bytes == 300_000
    assert weights.digest.startswith(f"modelscope:{ELSEWHERE}@master+")
    assert "model.safetensors" not in hub.fetched


def test_a_run_fetches_it_into_modelscope_s_cache_and_goes_on_where_it_was_cut(
    hub: ModelScope, compose: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = compose(*overrides(tmp_path)[:-1], "source.weights=modelscope")
    hub.other.add("model.safetensors")
    with pytest.raises(UserError, match=r"model\.pretrained="):
        sources.fetch(config, sources.find(config), lambda line: None)
    assert sources.find(config).pretrained == ELSEWHERE
    hub.other.clear()
    assert sources.fetch(config, sources.find(config), lambda line: None)
    found = sources.find(config)
    assert Path(found.pretrained).is_relative_to(tmp_path / "cache")
    assert {each.name for each in Path(found.pretrained).iterdir()} == {
        "config.json",
        "model.safetensors",
        hub_client.WHOLE,
    }
    hub.fetched.clear()
    assert not sources.fetch(config, found, lambda line: None)
    assert hub.fetched == []


def test_a_model_that_is_not_there(
    hub: ModelScope, compose: Callable[..., RunConfig], tmp_path: Path
) -> None:
    hub.models.clear()
    config = compose(*overrides(tmp_path)[:-1], "source.weights=modelscope")
    with pytest.raises(UserError, match="the request to ModelScope failed"):
        find_weights(sources.settled(config, sources.find(config)))


def test_a_data_set_is_read_from_modelscope(hub: ModelScope, tmp_path: Path) -> None:
    import datasets

    from runner.lm.datasets import local_datasets

    hub.datasets[QUESTIONS] = {
        "README.md": b"---\nconfigs:\n- config_name: main\n  data_files: main/*.jsonl\n---\n",
        "main/test.jsonl": b'{"question": "1 + 1?", "answer": "2"}\n',
    }
    with local_datasets(None, "modelscope"):
        loaded = datasets.load_dataset(QUESTIONS, "main")
        assert list(loaded["train"]) == [{"question": "1 + 1?", "answer": "2"}]
        with pytest.raises(UserError, match=r"data set owner/none \(source.data=modelscope"):
            datasets.load_dataset("owner/none")
    assert hub_client.fetch_data_set(QUESTIONS).is_relative_to(tmp_path / "cache")
