"""`python -m runner.prepare` against a hub on loopback: what it fetches, and what it survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from runner.inputs import manifest
from runner.prepare import __main__ as prepare
from runner.prepare import fetching
from tests.hub import Cut, Hang, Hub, Other, Short, Status

pytestmark = pytest.mark.slow

SLEEP = time.sleep
CHECKOUT = Path(__file__).resolve().parents[2]
MODEL, QUESTIONS = "owner/Some-1.5B", "owner/questions"
WEIGHTS = save({"w": np.arange(50_000, dtype=np.float32)})
SHARD = "model-00001-of-00001.safetensors"
MODEL_FILES = {
    ".gitattributes": b"*.safetensors lfs\n",
    "README.md": b"A model.\n",
    "LICENSE": b"Apache-2.0\n",
    "config.json": b'{"num_attention_heads": 4}\n',
    "tokenizer.json": b"{}\n",
    SHARD: WEIGHTS,
    "model.safetensors.index.json": json.dumps({"weight_map": {"w": SHARD}}).encode(),
    "pytorch_model.bin": b"the same once more" * 1000,
    "consolidated.safetensors": WEIGHTS,
    "original/consolidated.00.pth": b"and again" * 1000,
    "model-q4.gguf": b"and smaller" * 1000,
}
ENGINE_READS = {
    "README.md",
    "LICENSE",
    "config.json",
    "tokenizer.json",
    SHARD,
    "model.safetensors.index.json",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub that huggingface_hub asks in this test, by an empty cache."""
    with Hub(models={MODEL: dict(MODEL_FILES)}) as hub:
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # it goes on after a chunk
        # What the library waits before it tries again.
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: SLEEP(0.01))
        yield hub


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "carried"


def run(directory: Path, *overrides: str) -> int:
    """The weights alone, unless told otherwise: lm-eval's tasks take seconds to read."""
    return prepare.main(
        [
            "model=qwen3_8b",
            f"model.pretrained={MODEL}",
            "source.weights=hf",
            "source.data=local",
            f"source.dir={directory}",
            "engine=cpu",
            *overrides,
        ]
    )


def refusal(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """What was said to the user, which is one message."""
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith(("error:", "       "))]
    assert status == 1, said
    assert lines[0].startswith("error: ")
    assert "Traceback" not in said
    return "\n".join(lines)


def weights(directory: Path) -> Path:
    return directory / "weights" / MODEL


def listed(directory: Path) -> manifest.Manifest:
    found = manifest.read(directory)
    assert found is not None
    return found


# What is fetched


def test_what_an_engine_reads_and_no_second_copy_of_the_weights(hub: Hub, directory: Path) -> None:
    assert run(directory) == 0
    there = {
        str(file.relative_to(weights(directory)))
        for file in weights(directory).rglob("*")
        if file.is_file()
    }
    assert there == ENGINE_READS
    for name in there:
        assert (weights(directory) / name).read_bytes() == MODEL_FILES[name]


def test_the_manifest_says_what_it_is(hub: Hub, directory: Path) -> None:
    assert run(directory) == 0
    (repository,) = listed(directory).repositories
    assert (repository.id, repository.hub, repository.kind) == (MODEL, "hf", "model")
    assert repository.directory == f"weights/{MODEL}"
    source = hub.repository("model", MODEL)
    assert source is not None
    assert repository.revision == source.sha
    assert {file.path for file in repository.files} == ENGINE_READS
    assert manifest.problems(directory, repository, whole=True) == []


def test_a_second_time_fetches_nothing(hub: Hub, directory: Path) -> None:
    assert run(directory) == 0
    hub.asked.clear()
    assert run(directory) == 0
    assert hub.fetched("/resolve/") == []
    assert hub.fetched("/cdn/") == []


def test_another_revision_replaces_the_first(hub: Hub, directory: Path) -> None:
    assert run(directory) == 0
    hub.models[MODEL]["config.json"] = b'{"num_attention_heads": 8}\n'
    del hub.models[MODEL]["tokenizer.json"]
    assert run(directory) == 0
    (repository,) = listed(directory).repositories
    assert manifest.problems(directory, repository, whole=True) == []
    assert (weights(directory) / "config.json").read_bytes() == b'{"num_attention_heads": 8}\n'
    assert not (weights(directory) / "tokenizer.json").exists()


def test_two_models_share_a_directory(hub: Hub, directory: Path) -> None:
    hub.models["owner/other"] = dict(MODEL_FILES)
    assert run(directory) == 0
    assert run(directory, "model.pretrained=owner/other") == 0
    assert {each.id for each in listed(directory).repositories} == {MODEL, "owner/other"}


def test_a_tokenizer_of_another_repository(hub: Hub, directory: Path) -> None:
    hub.models["owner/tokenizer"] = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
    assert run(directory, "model.tokenizer=owner/tokenizer") == 0
    assert (directory / "weights" / "owner/tokenizer" / "tokenizer.json").is_file()


def test_a_revision(hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, run(directory, "model.revision=v9"))
    assert "does not have this revision" in said


# Faults


def test_no_such_model(hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, run(directory, "model.pretrained=owner/nope"))
    assert f"model.pretrained=owner/nope: {hub.endpoint} has no such model" in said
    assert manifest.read(directory) is None


def test_a_file_that_is_listed_and_not_there(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.append(Status("tokenizer.json", code=404, error="EntryNotFound"))
    said = refusal(capsys, run(directory))
    assert "lists a file that it does not have" in said
    assert manifest.read(directory) is None
    hub.faults.clear()
    assert run(directory) == 0
    assert (weights(directory) / "tokenizer.json").read_bytes() == b"{}\n"


@pytest.mark.parametrize("given", [None, "hf_wrongtokenwrongtoken"])
def test_a_gated_model_names_licence_and_token(
    hub: Hub,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
) -> None:
    hub.gated.add(MODEL)
    hub.token = "hf_secretsecretsecret"
    if given:
        monkeypatch.setenv("HF_TOKEN", given)
    said = refusal(capsys, run(directory))
    assert f"accept its licence at {hub.endpoint}/{MODEL}" in said
    assert "HF_TOKEN" in said
    assert ("no token is set" in said) == (given is None)
    assert "hf_" not in said
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert run(directory) == 0
    written = b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())
    assert hub.token.encode() not in written


def test_a_cut_connection_is_resumed(hub: Hub, directory: Path) -> None:
    hub.faults.append(Cut(SHARD, times=2, after=70_000))
    assert run(directory) == 0
    assert (weights(directory) / SHARD).read_bytes() == WEIGHTS
    ranges = [each.range for each in hub.fetched(f"/cdn/model/{MODEL}//{SHARD}")]
    assert ranges == [None, "bytes=70000-", "bytes=140000-"]


def test_a_connection_that_is_cut_each_time(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.append(Cut(SHARD, after=0))
    said = refusal(capsys, run(directory))
    assert "Run prepare again; it resumes from here" in said
    assert "Signature" not in said
    assert not (weights(directory) / SHARD).exists()
    assert manifest.read(directory) is None
    hub.faults.clear()
    hub.asked.clear()
    assert run(directory) == 0
    assert (weights(directory) / SHARD).read_bytes() == WEIGHTS


@pytest.mark.parametrize("kept", [0, 100, 100_000])
def test_less_than_the_hub_lists_is_refused(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    hub.faults.append(Short(SHARD, bytes=kept))
    refusal(capsys, run(directory))
    assert not (weights(directory) / SHARD).exists()
    assert manifest.read(directory) is None


@pytest.mark.parametrize("name", [SHARD, "config.json"])
def test_other_content_of_the_right_size_is_refused_and_not_kept(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    hub.faults.append(Other(name))
    said = refusal(capsys, run(directory))
    assert f"{name} differs from the hub's file (different hash) and was removed" in said
    assert not (weights(directory) / name).exists()
    assert manifest.read(directory) is None
    hub.faults.clear()
    assert run(directory) == 0
    assert (weights(directory) / name).read_bytes() == MODEL_FILES[name]


def test_a_file_left_by_a_broken_prepare_is_not_taken_for_the_hubs(
    hub: Hub, directory: Path
) -> None:
    weights(directory).mkdir(parents=True)
    (weights(directory) / "config.json").write_bytes(b'{"num_attention_heads": 5}\n')
    assert run(directory) == 0
    assert (weights(directory) / "config.json").read_bytes() == MODEL_FILES["config.json"]


def test_a_hub_in_trouble(hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.faults.append(Status("", code=500))
    said = refusal(capsys, run(directory))
    assert f"the request to {hub.endpoint} failed" in said
    assert "500" in said


def test_a_hub_that_says_nothing(
    hub: Hub,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runner.hubs.huggingface.LIST_TIMEOUT_S", 0.3)
    hub.faults.append(Hang(""))
    assert f"the request to {hub.endpoint} failed" in refusal(capsys, run(directory))


def test_a_hub_that_stops_in_the_middle(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults.append(Hang(SHARD))
    said = refusal(capsys, run(directory))
    assert f"the request to {hub.endpoint} failed" in said
    assert not (weights(directory) / SHARD).exists()


def test_no_way_to_a_hub(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    said = refusal(capsys, run(directory))
    assert "the request to http://127.0.0.1:1 failed (ConnectError" in said


def test_killed_in_the_middle(hub: Hub, directory: Path, tmp_path: Path) -> None:
    hub.faults.append(Hang(SHARD))
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    environment |= {"PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "0"}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "runner.prepare", "model=qwen3_8b", "engine=cpu"),
            *(f"model.pretrained={MODEL}", "source.data=local", f"source.dir={directory}"),
        ],
        env=environment,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + 60
        while not hub.fetched(f"/cdn/model/{MODEL}//{SHARD}"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert manifest.read(directory) is None
    assert not (weights(directory) / SHARD).exists()
    hub.faults.clear()
    assert run(directory) == 0
    (repository,) = listed(directory).repositories
    assert manifest.problems(directory, repository, whole=True) == []
    left = {str(file.relative_to(weights(directory))) for file in weights(directory).rglob("*")}
    assert left == ENGINE_READS


# Refused before anything is fetched


def test_a_name_that_leads_out_of_the_directory(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.models[MODEL]["../outside.json"] = b"{}"
    assert "lists a file outside the repository" in refusal(capsys, run(directory))


@pytest.mark.parametrize("absolute", [True, False])
def test_a_manifest_that_leads_out_of_the_directory_removes_nothing(
    hub: Hub,
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    absolute: bool,
) -> None:
    """prepare removes what its manifest names and the hub has no more."""
    assert run(directory) == 0
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    path = str(precious) if absolute else os.path.relpath(precious, weights(directory))
    file = directory / manifest.NAME
    content = json.loads(file.read_text())
    content["repositories"][0]["files"].append({"path": path, "size": 4, "sha256": "0" * 64})
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert "lists a file outside the directory" in refusal(capsys, run(directory))
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("link", ["weights", "weights/owner", f"weights/{MODEL}"])
def test_a_link_that_leads_out_of_the_directory_removes_nothing(
    hub: Hub, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], link: str
) -> None:
    assert run(directory) == 0
    moved, tokenizer = tmp_path / "elsewhere", weights(directory) / "tokenizer.json"
    (directory / link).rename(moved)
    (directory / link).symlink_to(moved)
    del hub.models[MODEL]["tokenizer.json"]
    capsys.readouterr()
    assert "a symbolic link to another place" in refusal(capsys, run(directory))
    assert tokenizer.exists()


def test_a_link_in_place_of_the_lock_empties_no_file(
    hub: Hub, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.mkdir()
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (directory / ".prepare.lock").symlink_to(precious)
    assert "not writable" in refusal(capsys, run(directory))
    assert precious.read_text() == "mine"


def test_a_full_disk(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: Full)
    said = refusal(capsys, run(directory))
    assert f"source.dir={directory}: 0.00 GB are still to be fetched" in said
    assert hub.fetched("/cdn/") == []


def test_files_that_no_hub_vouches_for(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights(directory).mkdir(parents=True)
    (weights(directory) / "extra.safetensors").write_bytes(b"x")
    assert "extra.safetensors: does not belong to owner/Some-1.5B" in refusal(
        capsys, run(directory)
    )


def test_offline(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE=1" in refusal(capsys, run(directory))
    assert hub.asked == []


def test_nothing_to_fetch_from(
    hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, run(directory, "source=local", "source.weights=local"))
    assert "nothing would be fetched" in said


def test_two_at_once(hub: Hub, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fetching.locked(directory):
        assert "another `runner.prepare` is running" in refusal(capsys, run(directory))


def test_a_place_that_cannot_be_written(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert "not writable" in refusal(capsys, run(tmp_path / "file" / "below"))


# The command


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=qwen3_8"], "Did you mean 'qwen3_8b'?"),
        (["model.pretraind=x/y"], "model.pretraind"),
        (["parallelism.tp=0"], "parallelism.tp=0"),
        (["source.weights=hub"], "source.weights=hub: must be one of hf, modelscope, local"),
        (["model.pretrained=/no/such"], "model.pretrained=/no/such: no such directory"),
    ],
)
def test_a_mistyped_command(
    overrides: list[str], said: str, capsys: pytest.CaptureFixture[str], directory: Path
) -> None:
    assert said in refusal(capsys, run(directory, *overrides))
    assert not directory.exists()


def test_the_canary_needs_nothing(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    assert prepare.main([f"source.dir={directory}", "engine=cpu"]) == 0
    assert "nothing to fetch" in capsys.readouterr().out
    assert not directory.exists()


def test_the_data_of_the_packages_own_tasks(hub: Hub, directory: Path) -> None:
    data = CHECKOUT / "tests" / "data" / "tasks"
    for identifier in ("HuggingFaceH4/MATH-500", "Idavidrein/gpqa"):
        files = [file for file in (data / identifier).rglob("*") if file.is_file()]
        hub.datasets[identifier] = {
            str(file.relative_to(data / identifier)): file.read_bytes() for file in files
        }
    words = ["model=qwen3_8b", "task.names=[math500_chat,gpqa_diamond_chat]", "engine=cpu"]
    assert prepare.main([*words, "source.weights=local", f"source.dir={directory}"]) == 0
    assert listed(directory).tasks == {
        "math500_chat": ("HuggingFaceH4/MATH-500",),
        "gpqa_diamond_chat": ("Idavidrein/gpqa",),
    }
    assert {
        str(file.relative_to(directory / "data"))
        for file in (directory / "data").rglob("*")
        if file.is_file()
    } == {
        "HuggingFaceH4/MATH-500/README.md",
        "HuggingFaceH4/MATH-500/test.jsonl",
        "Idavidrein/gpqa/README.md",
        "Idavidrein/gpqa/gpqa_diamond.csv",
    }


@pytest.mark.slow
def test_as_a_person_starts_it(hub: Hub, directory: Path, tmp_path: Path) -> None:
    hub.datasets[QUESTIONS] = {
        "README.md": b"---\nconfigs:\n- config_name: main\n  data_files: main/*.jsonl\n---\n",
        "main/test.jsonl": b'{"question": "1 + 1?", "answer": "2"}\n',
    }
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "sums.yaml").write_text(
        f"task: sums\ndataset_path: {QUESTIONS}\ndataset_name: main\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: question\ndoc_to_target: answer\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    environment |= {"PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "runner.prepare", "model=qwen3_8b", "engine=cpu"),
            *(f"model.pretrained={MODEL}", "task.names=[sums]", f"task.include_path={tasks}"),
            f"source.dir={directory}",
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "2 repositories" in done.stdout
    found = listed(directory)
    assert found.tasks == {"sums": (QUESTIONS,)}
    assert (directory / "data" / QUESTIONS / "main" / "test.jsonl").is_file()
    assert set(os.listdir(tmp_path)) <= {"carried", "home", "tasks"}
