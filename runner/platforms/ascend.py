"""Ascend NPUs, read from device files alone: initialising one here would break the worker's."""

from __future__ import annotations

import os
import re
from pathlib import Path

from runner.errors import UserError
from runner.platforms.base import Device, Platform, installed_version

DEVICE_FILES = Path("/dev")
# Read in vllm-ascend 0.23.0: each of these is imported when an engine starts.
PACKAGES = ("vllm", "vllm-ascend", "torch-npu")


class Ascend(Platform):
    name = "ascend"

    def present(self) -> bool:
        return bool(_device_numbers())

    def missing(self) -> list[str]:
        lines = []
        if not self.present():
            lines.append(
                f"no NPU: {DEVICE_FILES}/davinci0 … do not exist (in a container: pass them with "
                "--device /dev/davinci0 --device /dev/davinci_manager)"
            )
        absent = [package for package in PACKAGES if installed_version(package) is None]
        if absent:
            lines.append(
                f"not installed: {', '.join(absent)}; use the official vllm-ascend image, or "
                "pip install 'ascend-accuracy-runner[ascend]'"
            )
        return lines

    def devices(self) -> list[Device]:
        numbers = _device_numbers()
        visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
        if visible is not None:
            chosen = {int(part) for part in visible.split(",") if part.strip().isdecimal()}
            numbers = [number for number in numbers if number in chosen]
        return [Device(number, "Ascend") for number in numbers]

    def worker_environment(self, ranks: int) -> dict[str, str]:
        available = len(self.devices())
        if ranks > available:
            raise UserError(
                f"parallelism: tp×pp×dp={ranks} needs {ranks} NPUs, {available} are visible"
            )
        # A forked worker dies once torch_npu has been initialised ("Cannot re-initialize NPU").
        return {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}

    def versions(self) -> dict[str, str]:
        return {"cann": _cann_version(), "driver": _driver_version()}


def _device_numbers() -> list[int]:
    names = (entry.name for entry in DEVICE_FILES.glob("davinci[0-9]*"))
    return sorted(int(name[7:]) for name in names if name[7:].isdecimal())


def _cann_version() -> str:
    homes = [os.environ.get("ASCEND_HOME_PATH"), "/usr/local/Ascend/ascend-toolkit/latest"]
    homes += ["/usr/local/Ascend/cann"]
    for home in (Path(home) for home in homes if home):
        for file in (
            home / "ascend_toolkit_install.info",
            *sorted(home.glob("*-linux/ascend_toolkit_install.info")),
        ):
            version = _value(file, "version")
            if version:
                return version
    return "unknown"


def _driver_version() -> str:
    file = Path("/usr/local/Ascend/driver/version.info")
    return _value(file, "package_version") or _value(file, "Version") or "unknown"


def _value(file: Path, key: str) -> str | None:
    """The value of the line that *starts* with the key: `innerversion=` holds the word too."""
    try:
        found = re.search(rf"^{key}=(.*)$", file.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None
