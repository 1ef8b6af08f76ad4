"""A run as far as it goes without an NPU: the machine is imitated, the rest is real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PROJECT, Finished, command
from tests.imitation import Imitation, imitate

pytestmark = pytest.mark.slow


def start(machine: Imitation, where: Path, *overrides: str) -> Finished:
    where.mkdir(exist_ok=True)
    store, directory = f"sqlite:///{where / 'mlflow.db'}", where / "out"
    ended = subprocess.run(
        command(directory, store, *overrides),
        cwd=where,
        env=machine.process_environment(HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(ended.returncode, ended.stdout + ended.stderr, directory, store)


def tags(finished: Finished) -> dict[str, Any]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=finished.store)
    (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    return dict(run.data.tags)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """No vllm-ascend is here to start: the engine fails, and the record of the machine stays."""
    where = tmp_path_factory.mktemp("imitated")
    machine = imitate(where, "A2")
    return start(machine, where / "run", "task.limit=6", "parallelism.tp=2")


def test_an_engine_that_cannot_start_is_an_error_with_a_report(ended: Finished) -> None:
    assert ended.status == 2, ended.printed
    assert ended.json("verdict.json")["status"] == "ERROR"
    assert "canary_vl on ascend (TP2)" in ended.printed


def test_the_machine_is_in_the_environment_record(ended: Finished) -> None:
    environment = ended.json("environment.json")
    assert environment["toolkit"] | {"cann": "9.1.0", "driver": "25.5.1"} == environment["toolkit"]
    assert environment["toolkit"]["firmware"] == "7.8.0.5.216"
    assert [each["name"] for each in environment["devices"]] == ["Ascend 910B3"] * 8
    assert {each["memory_total_bytes"] for each in environment["devices"]} == {65536 << 20}


def test_the_machine_is_in_the_report(ended: Finished) -> None:
    for said in ("9.1.0", "25.5.1", "7.8.0.5.216", "8 × Ascend 910B3", "A2", "64 GiB"):
        assert said in ended.report, said


def test_the_machine_is_in_mlflows_tags(ended: Finished) -> None:
    found = tags(ended)
    assert found["chip"] == "Ascend 910B3"
    assert found["series"] == "A2"
    assert found["hbm"] == "64 GiB"
    assert found["version.cann"] == "9.1.0"
    assert found["version.driver"] == "25.5.1"
    assert found["version.firmware"] == "7.8.0.5.216"
    assert found["version.torch-npu"] == "2.10.0.post4"
    assert found["verdict"] == "ERROR"


def test_the_worker_alone_is_told_to_spawn(ended: Finished) -> None:
    plan = ended.json("plan.json")
    assert plan["environment"] == {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path: Path) -> None:
    machine = imitate(tmp_path, "310P", busy=[0], built_for="A2", packages={"torch-npu": "2.9.0"})
    refused = start(
        machine, tmp_path / "run", "parallelism.tp=2", "engine.dtype=bfloat16", "task.limit=6"
    )
    assert refused.status == 1, refused.printed
    assert "Traceback" not in refused.printed
    for said in (
        "parallelism: tp×pp×dp=2 needs 2 NPUs, 1 of the 2 visible are healthy and free",
        "VLLMWorker_TP",
        "was built for A2, this machine is 310P",
        "use engine.dtype=float16",
        "torch-npu 2.9.0 is installed",
        "engine.allow_untested=true",
    ):
        assert said in refused.printed, said
    assert not refused.directory.exists()


def test_without_an_npu_one_message_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "model=qwen2_5_vl_7b", "engine=ascend"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: engine=ascend: no NPU: /dev/davinci0")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
