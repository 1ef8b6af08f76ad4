"""Where weights and data are taken from is settled without a network, or said why it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save, save_file

from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.hubs import modelscope
from runner.hubs.cache import cached_on_modelscope
from runner.inputs import manifest, sources
from runner.inputs.manifest import Manifest, Repository
from runner.inputs.weights import find_weights
from tests.hub import Hub

MODEL, TOKENIZER, QUESTIONS = "owner/Some-1.5B", "owner/tokenizer", "owner/questions"
Compose = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with empty caches, and variables of nobody's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("MODELSCOPE_CACHE", "VLLM_USE_MODELSCOPE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def composed(compose: Compose) -> Compose:
    def of(*overrides: str) -> RunConfig:
        model = [f"model.pretrained={MODEL}", "model.revision=null", "task.names=[sums]"]
        return compose("model=qwen3_8b", *model, *overrides)

    return of


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """What prepare leaves: a model, a tokenizer and a task's data set."""
    directory = tmp_path / "carried"
    listed = Manifest(manifest.SCHEMA, "", "", tasks={"sums": (QUESTIONS,)})
    for place, kind, identifier in (
        ("weights", "model", MODEL),
        ("weights", "model", TOKENIZER),
        ("data", "dataset", QUESTIONS),
    ):
        model_files(directory / place / identifier)
        files = tuple(
            manifest.describe(directory / place / identifier, path, None)
            for path in ("config.json", "model.safetensors")
        )
        listed = listed.having(
            Repository(identifier, "hf", kind, "0" * 40, f"{place}/{identifier}", files)
        )
    manifest.write(directory, listed)
    return directory


def model_files(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    save_file({"w": np.zeros(4, dtype=np.float32)}, directory / "model.safetensors")


def refusal(config: RunConfig) -> str:
    with pytest.raises(UserError) as caught:
        sources.find(config)
    assert all("\n" not in problem for problem in caught.value.problems)
    return "\n".join(caught.value.problems)


def checked(config: RunConfig) -> str:
    told: list[str] = []
    sources.verify(config, sources.find(config), told.append)
    return " ".join(told)


# From a hub


def test_as_today(composed: Compose) -> None:
    config = composed()
    found = sources.find(config)
    assert (found.pretrained, found.tokenizer, found.data_dir) == (MODEL, None, None)
    assert (found.prepared, found.environment, found.data_digest) == ((), {}, None)
    assert sources.settled(config, found) == config


def test_the_environment_of_another_tool_does_not_decide(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "true")
    assert sources.worker_environment(composed(), MODEL, None, {"VLLM_USE_MODELSCOPE": "true"}) == {
        "VLLM_USE_MODELSCOPE": "False"
    }


def test_nor_does_the_worker_s_own(composed: Compose) -> None:
    config = composed("++engine.env.VLLM_USE_MODELSCOPE='1'")
    assert "use source.weights=modelscope instead" in refusal(config)


def test_weights_from_modelscope_reach_the_engine_as_a_directory(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    """vLLM asks ModelScope for nothing: its patch of the hub library never comes."""
    snapshot = machine / ".cache/modelscope/models/Owner--Elsewhere/snapshots/master"

    def fetched(repository: str, revision: str | None, key: str) -> Path:
        assert (repository, revision, key) == ("Owner/Elsewhere", None, "model.pretrained")
        model_files(snapshot)
        (snapshot / modelscope.WHOLE).write_text("")
        return snapshot

    monkeypatch.setattr(modelscope, "installed", lambda: True)
    monkeypatch.setattr(modelscope, "fetch_model", fetched)
    config = composed("source=modelscope", "model.modelscope=Owner/Elsewhere")
    found = sources.find(config)
    assert (found.pretrained, found.environment) == ("Owner/Elsewhere", {})
    told: list[str] = []
    assert sources.fetch(config, found, told.append)
    assert told == ["fetching Owner/Elsewhere from ModelScope …"]
    found = sources.find(config)
    assert (found.pretrained, found.environment) == (str(snapshot), {})
    assert not sources.fetch(config, found, told.append)


def test_nothing_is_fetched_from_hugging_face_here(composed: Compose) -> None:
    config = composed()
    assert not sources.fetch(config, sources.find(config), pytest.fail)


@pytest.mark.parametrize("key", ["source.weights", "source.data"])
def test_modelscope_without_its_package(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(modelscope, "installed", lambda: False)
    said = refusal(composed(f"{key}=modelscope"))
    assert said.startswith(f"{key}=modelscope: ")
    assert "pip install 'modelscope-hub>=0.5'" in said


@pytest.mark.parametrize(
    "layout",
    [
        ".cache/modelscope/models/owner--Some-1.5B/snapshots/master",
        ".cache/modelscope/hub/models/owner/Some-1___5B",
        ".cache/modelscope/hub/models/owner/Some-1.5B",
        ".cache/modelscope/hub/owner/Some-1___5B",
    ],
)
def test_modelscope_s_cache_in_the_layouts_of_its_versions(
    composed: Compose, machine: Path, layout: str
) -> None:
    model_files(machine / layout)
    config = composed("source.weights=local")
    found = sources.find(config)
    assert found.pretrained == str(machine / layout)
    assert find_weights(sources.settled(config, found)).directory == machine / layout


def test_half_a_model_in_modelscope_s_cache_is_fetched_on(
    composed: Compose, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelscope, "installed", lambda: True)
    snapshot = machine / ".cache/modelscope/models/owner--Some-1.5B/snapshots/master"
    model_files(snapshot)
    config = composed("source.weights=modelscope")
    assert sources.find(config).pretrained == MODEL
    (snapshot / modelscope.WHOLE).write_text("")
    assert sources.find(config).pretrained == str(snapshot)
    monkeypatch.setattr(modelscope, "installed", lambda: False)
    assert sources.find(config).pretrained == str(snapshot)


def test_modelscope_s_cache_elsewhere(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(machine / "ms"))
    model_files(machine / "ms/models/owner/Some-1___5B")
    assert cached_on_modelscope(MODEL, None) == machine / "ms/models/owner/Some-1___5B"
    assert cached_on_modelscope("owner/other", None) is None


# Local


def test_a_prepared_directory(composed: Compose, prepared: Path) -> None:
    config = composed("source=local", f"source.dir={prepared}", f"model.tokenizer={TOKENIZER}")
    found = sources.find(config)
    assert found.pretrained == str(prepared / "weights" / MODEL)
    assert found.tokenizer == str(prepared / "weights" / TOKENIZER)
    assert found.data_dir == str(prepared / "data")
    assert found.environment == sources.OFFLINE
    assert "0.0 GB, sampled" in checked(config)
    settled = sources.settled(config, found)
    assert find_weights(settled).directory == prepared / "weights" / MODEL
    assert settled.task.data_dir == str(prepared / "data")
    assert config.model.pretrained == MODEL


def test_its_data_are_the_same_wherever_it_lies(composed: Compose, prepared: Path) -> None:
    before = sources.find(composed("source=local", f"source.dir={prepared}")).data_digest
    moved = prepared.rename(prepared.parent / "moved")
    assert before is not None
    assert sources.find(composed("source=local", f"source.dir={moved}")).data_digest == before


def test_weights_alone_are_local(composed: Compose, prepared: Path) -> None:
    found = sources.find(composed("source.weights=local", f"source.dir={prepared}"))
    assert found.pretrained == str(prepared / "weights" / MODEL)
    assert (found.data_dir, found.data_digest, found.environment) == (None, None, {})


def test_data_alone_are_local(composed: Compose, prepared: Path) -> None:
    found = sources.find(composed("source.data=local", f"source.dir={prepared}"))
    assert found.pretrained == MODEL
    assert found.data_dir == str(prepared / "data")
    assert found.environment == {"HF_DATASETS_OFFLINE": "1"}
    assert [each.kind for each in found.prepared] == ["dataset"]


def test_the_user_s_own_directories_come_first(composed: Compose, prepared: Path) -> None:
    model_files(prepared.parent / "own")
    config = composed(
        "source=local",
        f"source.dir={prepared}",
        f"model.pretrained={prepared.parent / 'own'}",
        f"task.data_dir={prepared.parent}",
    )
    found = sources.find(config)
    assert found.pretrained == str(prepared.parent / "own")
    assert found.data_dir == str(prepared.parent)
    assert found.prepared == ()
    assert checked(config) == ""


def test_a_filled_cache_counts_as_local(composed: Compose, machine: Path) -> None:
    snapshot = machine / "hf/models--owner--Some-1.5B/snapshots" / ("0" * 40)
    model_files(snapshot)
    (machine / "hf/models--owner--Some-1.5B/refs").mkdir()
    (machine / "hf/models--owner--Some-1.5B/refs/main").write_text("0" * 40)
    found = sources.find(composed("source=local"))
    assert found.pretrained == str(snapshot)
    assert found.environment == sources.OFFLINE


def test_nowhere_on_this_machine(composed: Compose) -> None:
    said = refusal(composed("source=local"))
    assert said.startswith(f"model.pretrained={MODEL}: not found as a directory")
    assert "python -m runner.prepare model=qwen3_8b task.names=[sums] source.dir=DIR`" in said


def test_a_directory_without_a_manifest_is_unfinished(composed: Compose, prepared: Path) -> None:
    (prepared / manifest.NAME).unlink()
    said = refusal(composed("source=local", f"source.dir={prepared}"))
    assert f"source.dir={prepared}: no manifest.json in it, so prepare did not finish" in said
    assert "python -m runner.prepare" in said


def test_no_such_directory(composed: Compose, tmp_path: Path) -> None:
    assert "no such directory" in refusal(composed("source=local", f"source.dir={tmp_path}/none"))


def test_a_directory_that_nothing_reads(composed: Compose, prepared: Path) -> None:
    assert "set source=local" in refusal(composed(f"source.dir={prepared}"))


def test_another_revision(composed: Compose, prepared: Path) -> None:
    local = ["source=local", f"source.dir={prepared}"]
    said = refusal(composed(*local, "model.revision=v2"))
    assert f"model.revision=v2: source.dir={prepared} has {MODEL} at its main branch" in said
    sources.find(composed(*local, f"model.revision={'0' * 40}"))


def test_another_task(composed: Compose, prepared: Path) -> None:
    said = refusal(composed("source=local", f"source.dir={prepared}", "task.names=[sums,gsm8k]"))
    assert f"task.names=gsm8k: not prepared in source.dir={prepared}, which has sums" in said


def test_a_data_set_that_was_begun_again(composed: Compose, prepared: Path) -> None:
    listed = manifest.read(prepared)
    assert listed is not None
    manifest.write(prepared, listed.without(f"data/{QUESTIONS}"))
    assert "incomplete" in refusal(composed("source=local", f"source.dir={prepared}"))


@pytest.mark.parametrize("verify", ["sampled", "whole"])
@pytest.mark.parametrize("place", [f"weights/{MODEL}", f"data/{QUESTIONS}"])
def test_a_changed_file_is_named(
    composed: Compose, prepared: Path, verify: str, place: str
) -> None:
    (prepared / place / "config.json").write_text(json.dumps({"num_attention_heads": 8}))
    with pytest.raises(UserError, match=f"{place}/config.json: content differs from the manifest"):
        checked(composed("source=local", f"source.dir={prepared}", f"source.verify={verify}"))


def test_what_the_run_does_not_use_is_not_read(composed: Compose, prepared: Path) -> None:
    (prepared / "weights" / TOKENIZER / "config.json").write_text("changed")
    checked(composed("source=local", f"source.dir={prepared}"))


# On the hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {
        "config.json": json.dumps({"num_attention_heads": 4}).encode(),
        "model.safetensors": save({"w": np.zeros(1000, dtype=np.float32)}),
        "pytorch_model.bin": bytes(5000),
    }
    with Hub(models={MODEL: files}) as hub:
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def test_the_hub_gives_the_whole_config_and_the_size(
    composed: Compose, hub: Hub, machine: Path
) -> None:
    weights = find_weights(composed())
    source = hub.repository("model", MODEL)
    assert source is not None
    assert weights.directory is None
    assert weights.config == {"num_attention_heads": 4}
    assert weights.digest == f"hub:{MODEL}@{source.sha}"
    assert weights.stored_bytes == len(source.files["model.safetensors"])
    assert hub.fetched("model.safetensors") == []
    assert not (machine / "hf").exists(), "a config.json alone in the cache is a broken model"


def test_a_cache_with_a_tokenizer_alone_does_not_hide_the_hub(
    composed: Compose, hub: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = machine / "hf/models--owner--Some-1.5B"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
    assert find_weights(composed()).directory is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"no \*.safetensors or \*.bin in it"):
        find_weights(composed())


def test_a_gated_model(composed: Compose, hub: Hub) -> None:
    hub.gated.add(MODEL)
    with pytest.raises(UserError, match=r"accept its licence at .*HF_TOKEN"):
        find_weights(composed())


def test_data_sets_are_read_before_vllm_can_patch_the_hub_library() -> None:
    """ModelScope's patch comes with `import vllm`; by then lm-eval must have its data."""
    code = "import sys, runner.lm.datasets, runner.lm.tasks; print('vllm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
