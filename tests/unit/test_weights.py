"""A model's files are found, whole, and known by their content before anything is loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.config.schema import ModelConfig, RunConfig, SourceConfig
from runner.errors import UserError
from runner.inputs.weights import Weights
from runner.inputs.weights import find_weights as find_weights_of
from runner.preflight import adapters


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    save_file({"w": np.arange(64, dtype=np.float32)}, directory / "model.safetensors")
    (directory / "tokenizer.json").write_text("{}")
    return directory


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, and no way to the hub."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def sharded(directory: Path, present: int, of: int) -> None:
    """Replace the single file by the first shards of an index that names more."""
    (directory / "model.safetensors").unlink()
    names = [f"model-{n:05}-of-{of:05}.safetensors" for n in range(1, of + 1)]
    for number, name in enumerate(names[:present]):
        save_file({f"w{number}": np.zeros(4, dtype=np.float32)}, directory / name)
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(names)}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def find_weights(pretrained: str, revision: str | None) -> Weights:
    model = ModelConfig(name="m", pretrained=pretrained, revision=revision)
    return find_weights_of(RunConfig(model=model, source=SourceConfig(weights="hf", data="hf")))


def refusal(pretrained: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        find_weights(str(pretrained), None)
    (problem,) = caught.value.problems
    assert problem.startswith("model.pretrained")
    assert "\n" not in problem
    return problem


def test_a_sound_directory(model: Path) -> None:
    weights = find_weights(str(model), None)
    assert weights.directory == model
    assert weights.config == {"num_attention_heads": 4}
    assert len(weights.digest) == 64


def test_a_directory_in_the_home(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model.parent))
    assert find_weights("~/model", None).directory == model


def test_all_shards_of_an_index(model: Path) -> None:
    sharded(model, present=3, of=3)
    assert find_weights(str(model), None).directory == model


def test_pytorch_files(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert find_weights(str(model), None).directory == model


@pytest.mark.parametrize("name", ["/no/such/model", "./model", "~/none", "a/b/c", "model"])
def test_a_path_that_is_not_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{name}: no such directory" in refusal(name)


def test_a_file_is_no_directory(model: Path) -> None:
    assert "give the model's directory" in refusal(model / "config.json")


def test_no_config(model: Path) -> None:
    (model / "config.json").unlink()
    assert "config.json is missing" in refusal(model)


def test_an_adapter_is_no_model(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    problem = refusal(model)
    assert "an adapter, not a model" in problem
    assert "set model=any model.pretrained=owner/base" in problem
    assert f"engine.extra.lora_local_path={model}" in problem
    assert f"engine.extra.peft={model} with engine=transformers" in problem


@pytest.mark.parametrize(
    ("runtime", "key"), [("vllm", "lora_local_path"), ("transformers", "peft")]
)
def test_an_adapter_that_is_not_there_is_refused(
    config: RunConfig, tmp_path: Path, runtime: str, key: str
) -> None:
    def found(place: str) -> list[str]:
        engine = replace(config.engine, runtime=runtime, extra={key: place})
        return adapters.problems(replace(config, engine=engine))

    assert found(f"{tmp_path}/none") == [f"engine.extra.{key}={tmp_path}/none: no such directory"]
    assert found(str(tmp_path))[0].endswith("not an adapter; adapter_config.json is missing")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert found(str(tmp_path)) == found("owner/adapter") == adapters.problems(config) == []


@pytest.mark.parametrize("content", [b'{"num_attention_heads": 4', b"", b"\xff\xfe\x00"])
def test_a_broken_config(model: Path, content: bytes) -> None:
    (model / "config.json").write_bytes(content)
    problem = refusal(model)
    assert "config.json" in problem
    assert "not valid JSON" in problem


def test_a_config_that_is_no_mapping(model: Path) -> None:
    (model / "config.json").write_text("[]")
    assert "config.json" in refusal(model)


def test_no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "no *.safetensors or *.bin" in refusal(model)


def test_a_missing_shard_is_named(model: Path) -> None:
    sharded(model, present=1, of=3)
    problem = refusal(model)
    assert "2 of 3 weight files are missing" in problem
    assert "model-00002-of-00003.safetensors" in problem


def test_an_index_without_any_shard(model: Path) -> None:
    sharded(model, present=0, of=3)
    assert "3 of 3 weight files are missing" in refusal(model)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd"])
def test_an_index_that_leads_out_of_the_directory(model: Path, name: str) -> None:
    index = {"weight_map": {"w": name}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lists a file outside its directory" in refusal(model)


@pytest.mark.parametrize("content", ['{"weight_map": {', "{}", "[]"])
def test_a_broken_index(model: Path, content: str) -> None:
    (model / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refusal(model)


@pytest.mark.parametrize("kept", [-1, 40, 4, 0])
def test_a_cut_download(model: Path, kept: int) -> None:
    file = model / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    problem = refusal(model)
    assert "model.safetensors is corrupt" in problem
    assert "fetch it again" in problem


def test_a_pointer_of_git_lfs_is_no_weights(model: Path) -> None:
    (model / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    )
    assert "corrupt" in refusal(model)


# Who they are


def test_moved_weights_are_the_same(model: Path, tmp_path: Path) -> None:
    before = find_weights(str(model), None).digest
    shutil.copytree(model, tmp_path / "elsewhere")
    assert find_weights(str(tmp_path / "elsewhere"), None).digest == before


def test_one_byte_of_the_weights_makes_others(model: Path) -> None:
    before = find_weights(str(model), None).digest
    file = model / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert find_weights(str(model), None).digest != before


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "generation_config.json",
        "merges.txt",
        "chat_template.jinja",
    ],
)
def test_what_shapes_the_model_beside_its_weights_counts(model: Path, name: str) -> None:
    before = find_weights(str(model), None).digest
    (model / name).write_text('{"num_attention_heads": 8}')
    assert find_weights(str(model), None).digest != before


def test_code_that_comes_with_the_weights_counts(model: Path) -> None:
    (model / "modeling_custom.py").write_text("SCALE = 1\n")
    before = find_weights(str(model), None).digest
    (model / "modeling_custom.py").write_text("SCALE = 2\n")
    assert find_weights(str(model), None).digest != before


def test_a_readme_does_not_count(model: Path) -> None:
    before = find_weights(str(model), None).digest
    (model / "README.md").write_text("Read me.")
    assert find_weights(str(model), None).digest == before


# The hub


def test_a_hub_id_in_the_cache(model: Path, hub_cache: Path) -> None:
    repository, sha = hub_cache / "models--owner--name", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(sha)
    shutil.copytree(model, repository / "snapshots" / sha)
    weights = find_weights("owner/name", None)
    assert weights.directory == repository / "snapshots" / sha
    assert weights.digest == find_weights(str(model), None).digest


def test_a_hub_id_without_a_network_says_how_to_fetch_it(hub_cache: Path) -> None:
    problem = refusal("owner/name")
    assert str(hub_cache) in problem
    assert "HF_HUB_OFFLINE=1" in problem
    assert "hf download owner/name --local-dir DIR" in problem
    assert "model.pretrained=DIR" in problem


def test_a_hub_that_does_not_answer(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def no_answer(self: HfApi, *arguments: object, **options: object) -> None:
        raise ConnectionError("name resolution failed\nand more")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", no_answer)
    problem = refusal("owner/name")
    assert " failed (ConnectionError: name resolution failed)" in problem
    assert "hf download owner/name" in problem


def test_nothing_is_digested_before_it_is_asked_for(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of shards take seconds to read: a refusal does not wait for them."""
    with monkeypatch.context() as unread:
        unread.setattr("runner.inputs.weights.digest_files", None)
        weights = find_weights(str(model), None)
    assert len(weights.digest) == 64
