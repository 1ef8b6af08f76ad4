"""What cannot work is refused by name, all of it at once, before anything heavy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner import interpreters, preflight
from runner.config.schema import RunConfig
from runner.platforms import ascend, cuda
from runner.platforms.ascend import Ascend
from runner.platforms.cpu import Cpu
from tests.mlflow_server import serving


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_of(tmp_path, {"num_attention_heads": 8, "max_position_embeddings": 2048})


def model_of(tmp_path: Path, config: dict[str, Any]) -> Path:
    directory = tmp_path / "model"
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file({"w": np.zeros(4, dtype=np.float32)}, directory / "model.safetensors")
    return directory


@pytest.fixture
def config(config: RunConfig, model: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run that preflight lets through, on a CPU that lacks nothing and has eight cores."""
    monkeypatch.setattr(Cpu, "missing", lambda self, python: [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", raising=False)
    config.model.pretrained = str(model)
    config.engine.platform = "cpu"
    config.engine.max_model_len = 1024
    config.parallelism.tp = 1
    return config


def problems(config: RunConfig) -> tuple[str, ...]:
    return tuple(preflight.look(config).problems)


def sound(config: RunConfig) -> preflight.Findings:
    found = preflight.look(config)
    assert found.problems == []
    return found


def problem(config: RunConfig) -> str:
    (only,) = problems(config)
    return only


def test_a_sound_run_is_let_through_with_its_weights(config: RunConfig, model: Path) -> None:
    assert sound(config).weights.directory == model


# Layout


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_tensor_parallel_sizes_that_divide_the_heads(config: RunConfig, tp: int) -> None:
    config.parallelism.tp = tp
    sound(config)


@pytest.mark.parametrize("tp", [3, 5, 6])
def test_tensor_parallel_sizes_that_do_not(config: RunConfig, tp: int) -> None:
    config.parallelism.tp = tp
    said = problem(config)
    assert said.startswith(f"parallelism.tp={tp}: must divide the model's 8 attention heads")
    assert f"; use parallelism.tp={4 if tp < 6 else 8}, or run anyway" in said


def test_more_ranks_than_heads(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    config.parallelism.tp = 16
    assert problem(config).startswith("parallelism.tp=16: must divide")


def test_a_multimodal_models_language_part_is_what_counts(
    config: RunConfig, tmp_path: Path
) -> None:
    text = {"num_attention_heads": 6, "max_position_embeddings": 512}
    model_of(tmp_path, {"text_config": text, "vision_config": {"num_attention_heads": 16}})
    config.parallelism.tp = 4
    said = problems(config)
    assert "6 attention heads" in said[0]
    assert "512 tokens" in said[1]


def test_a_model_that_does_not_tell_is_left_to_the_engine(
    config: RunConfig, tmp_path: Path
) -> None:
    model_of(tmp_path, {})
    config.parallelism.tp = 7
    sound(config)


def test_max_model_len_beyond_the_models_own(config: RunConfig) -> None:
    config.engine.max_model_len = 2049
    said = problem(config)
    assert said.startswith("engine.max_model_len=2049: ")
    assert "2048 tokens" in said


@pytest.mark.parametrize("length", [2048, None])
def test_max_model_len_at_the_models_own(config: RunConfig, length: int | None) -> None:
    config.engine.max_model_len = length
    sound(config)


def test_a_model_with_stretched_positions_may_be_longer(config: RunConfig, tmp_path: Path) -> None:
    model_of(
        tmp_path,
        {
            "max_position_embeddings": 2048,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
        },
    )
    config.engine.max_model_len = 8192
    sound(config)


@pytest.mark.parametrize("where", ["engine.env", "environment"])
def test_vllms_own_permission_to_be_longer(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    config.engine.max_model_len = 4096
    if where == "engine.env":
        config.engine.env = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    else:
        monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    sound(config)


# Machine


def test_more_ranks_than_cores(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    config.parallelism.tp = 2
    assert "needs 2 CPU cores, this process may use 1" in problem(config)


@pytest.mark.parametrize("platform", ["cpu", "ascend"])
def test_data_parallel_that_would_wait_for_gpus_for_ever(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str
) -> None:
    monkeypatch.setattr(Ascend, "missing", lambda self, python: [])
    for number in range(2):
        (tmp_path / f"davinci{number}").touch()
    monkeypatch.setattr(ascend, "DEVICE_FILES", tmp_path)
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    config.engine.platform = platform
    config.parallelism.dp = 2
    said = problem(config)
    assert said.startswith("parallelism.dp=2: ")
    assert "use parallelism.dp=1, or parallelism.dp=1 parallelism.tp=2" in said


def test_no_npu(config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ascend, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(interpreters, "installed_version", lambda name: None)
    config.engine.platform = "ascend"
    said = problems(config)
    assert len(said) == 2
    assert all(line.startswith("engine=ascend: ") for line in said)
    assert "davinci0" in said[0]
    assert "not installed: vllm, vllm-ascend, torch-npu" in said[1]


def test_no_gpu(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.Cuda, "present", lambda self: False)
    monkeypatch.setattr(interpreters, "installed_version", lambda name: None)
    config.engine.platform = "cuda"
    said = problems(config)
    assert len(said) == 2
    assert all(line.startswith("engine=cuda: ") for line in said)


# Data


@pytest.mark.parametrize("key", ["data_dir", "include_path"])
@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_directory_that_holds_nothing(
    config: RunConfig, tmp_path: Path, key: str, kind: str
) -> None:
    path = tmp_path / "data"
    if kind == "file":
        path.write_text("")
    elif kind == "empty":
        path.mkdir()
    setattr(config.task, key, str(path))
    said = problem(config)
    assert said.startswith(f"task.{key}={path}: ")
    assert ("empty" if kind == "empty" else "no such directory") in said


def test_a_data_directory_in_the_home(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "set").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    config.task.data_dir = "~/data"
    sound(config)


# Tracking


@pytest.fixture
def store(config: RunConfig, tmp_path: Path) -> Path:
    """The file of a SQLite store; it does not exist yet."""
    file = tmp_path / "store" / "mlflow.db"
    file.parent.mkdir()
    config.tracking.enabled = True
    config.tracking.uri = f"sqlite:///{file}"
    return file


def test_a_store_that_is_yet_to_be_made(config: RunConfig, store: Path) -> None:
    sound(config)
    assert not store.exists()


def test_a_sound_store_is_left_as_it_is(config: RunConfig, store: Path) -> None:
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE runs (id)")
    before = store.read_bytes()
    sound(config)
    assert store.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all, but long enough " * 40, b"SQLite"])
def test_a_corrupt_store(config: RunConfig, store: Path, content: bytes) -> None:
    store.write_bytes(content)
    said = problem(config)
    assert said.startswith(f"tracking.uri={config.tracking.uri}: file is not a database")
    assert "tracking=off" in said


@pytest.mark.slow
def test_a_locked_store(config: RunConfig, store: Path) -> None:
    """Waits as long as the code does: five seconds."""
    holder = sqlite3.connect(store, isolation_level=None)
    holder.execute("CREATE TABLE runs (id)")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        said = problem(config)
    finally:
        holder.rollback()
        holder.close()
    assert "database is locked" in said
    assert "tracking=off" in said


def test_a_directory_is_no_store(config: RunConfig, store: Path) -> None:
    store.mkdir()
    assert "unable to open database file" in problem(config)


def test_a_store_in_a_directory_that_is_not_there(config: RunConfig, store: Path) -> None:
    store.parent.rmdir()
    assert f"cannot create a file in {store.parent}" in problem(config)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_in_a_directory_without_permission(config: RunConfig, store: Path) -> None:
    store.parent.chmod(0o500)
    assert f"cannot create a file in {store.parent}" in problem(config)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_only_be_read(config: RunConfig, store: Path) -> None:
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE runs (id)")
    store.chmod(0o400)
    assert "not writable" in problem(config)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mlruns", "MLflow no longer takes a directory; an address must be sqlite:///FILE, "),
        ("./mlruns", "MLflow no longer takes a directory; an address must be "),
        ("/var/mlruns", "MLflow no longer takes a directory"),
        ("file:///mlruns", "MLflow no longer takes a directory"),
        ("127.0.0.1:5000", "write http://127.0.0.1:5000; an address must be "),
        ("host:5000/path", "write http://host:5000/path; "),
        ("uc:prod", "must be sqlite:///FILE, "),
        ("htp://host", "must be sqlite:///FILE, http(s)://HOST, postgresql://…, "),
        ("", "must be sqlite:///FILE, "),
        ("sqlite://", "no file given; write sqlite:///FILE"),
        ("sqlite:///", "no file given; write sqlite:///FILE"),
    ],
)
def test_an_address_that_mlflow_does_not_take(config: RunConfig, uri: str, said: str) -> None:
    config.tracking.enabled, config.tracking.uri = True, uri
    assert problem(config).startswith(f"tracking.uri={uri}: {said}")


def experiment(uri: str, deleted: bool) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    identifier = client.create_experiment("gsm8k")
    if deleted:
        client.delete_experiment(identifier)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_deleted_experiment_is_named_before_the_engine_starts(
    config: RunConfig, store: Path, store_file: Path, deleted: bool
) -> None:
    shutil.copy(store_file, store)
    experiment(config.tracking.uri, deleted)
    if not deleted:
        sound(config)
        return
    assert problem(config) == (
        f"tracking.experiment=gsm8k: this experiment is deleted in {config.tracking.uri}; restore "
        "it there, or set tracking.experiment=OTHER"
    )
    config.tracking.experiment = "other"
    sound(config)


@pytest.mark.parametrize("stage", [None, "active", "deleted"])
def test_a_server_is_asked_for_the_experiment(config: RunConfig, stage: str | None) -> None:
    with serving() as server:
        if stage is not None:
            server.experiments["gsm8k"] = "1"
        if stage == "deleted":
            server.deleted.add("gsm8k")
        config.tracking.enabled, config.tracking.uri = True, server.uri
        if stage == "deleted":
            assert problem(config).startswith("tracking.experiment=gsm8k: this experiment is del")
        else:
            sound(config)
        assert preflight.look(config).warnings == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/path",
        "postgresql://host/db",
        "mysql+pymysql://host/db",
        "postgresql+psycopg2://host/db",
        "databricks",
        "databricks://prod",
    ],
)
def test_servers_are_not_asked_before_the_run(config: RunConfig, uri: str) -> None:
    config.tracking.enabled, config.tracking.uri = True, uri
    sound(config)


def test_a_port_that_is_none(config: RunConfig) -> None:
    config.tracking.enabled, config.tracking.uri = True, "http://host:port"
    assert problem(config).startswith("tracking.uri=http://host:port: ")


def test_tracking_that_is_off_is_not_looked_at(config: RunConfig) -> None:
    config.tracking.uri = "no://such/thing"
    sound(config)
    assert preflight.look(config).warnings == []


def test_a_server_that_is_away_is_a_warning(config: RunConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.tracking.enabled, config.tracking.uri = True, f"http://127.0.0.1:{port}"
    (warning,) = preflight.look(config).warnings
    assert warning.startswith(f"tracking.uri=http://127.0.0.1:{port}: ")
    assert "the server is unreachable" in warning


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("", None),
        ("silent", "the server did not answer within"),
        ("dribble", "the server did not answer within"),
        ("cut", "the server is unreachable ("),
        ("html", "the server is not an MLflow server"),
        (401, "the server rejects these credentials (status 401)"),
        (503, "the server answered with status 503"),
    ],
)
def test_a_server_is_asked_in_bounded_time(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, fault: str | int, complaint: str | None
) -> None:
    slow = fault in ("silent", "dribble")
    monkeypatch.setattr(preflight.store, "SERVER_TIMEOUT_S", 0.3 if slow else 30)
    with serving() as server:
        server.misbehave(fault)
        config.tracking.enabled, config.tracking.uri = True, server.uri
        said = preflight.store.warnings(config.tracking)
    if complaint is None:
        assert said == []
    else:
        (warning,) = said
        assert complaint in warning
        assert "python -m runner.sync" in warning


def test_a_timeout_of_the_request_itself_is_the_same_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine it may come before that of the whole."""
    monkeypatch.setattr(preflight.store, "SERVER_TIMEOUT_S", 0.3)
    with serving() as server:
        server.misbehave("silent")
        said = preflight.store._asked(server.uri, "")
    assert said.complaint == "the server did not answer within 0.3 s"


# All of it


def test_every_problem_is_named_at_once(config: RunConfig, tmp_path: Path) -> None:
    config.parallelism.tp = 3
    config.engine.max_model_len = 4096
    config.task.data_dir = str(tmp_path / "none")
    config.tracking.enabled, config.tracking.uri = True, "mlruns"
    keys = [line.partition("=")[0] for line in problems(config)]
    assert keys == ["parallelism.tp", "engine.max_model_len", "task.data_dir", "tracking.uri"]


def test_missing_weights_do_not_hide_the_rest(config: RunConfig, tmp_path: Path) -> None:
    config.model.pretrained = str(tmp_path / "none")
    config.task.data_dir = str(tmp_path / "none")
    keys = [line.partition("=")[0] for line in problems(config)]
    assert keys == ["model.pretrained", "task.data_dir"]


@pytest.mark.parametrize("name", ["num_experts", "num_local_experts", "n_routed_experts"])
def test_expert_parallel_wants_experts(config: RunConfig, tmp_path: Path, name: str) -> None:
    config.parallelism.ep = True
    (said,) = problems(config)
    assert said.startswith("parallelism.ep=true: the model is not a mixture-of-experts model")
    model_of(tmp_path, {"num_attention_heads": 8, "max_position_embeddings": 2048, name: 8})
    sound(config)
