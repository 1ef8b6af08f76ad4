"""NVIDIA GPUs, read with nvidia-smi: the parent never initialises CUDA."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from runner.errors import UserError
from runner.interpreters import OWN, Interpreter
from runner.platforms.base import MEMORY_SHARE, Device, Platform


class Cuda(Platform):
    name = "cuda"

    def present(self) -> bool:
        return Path("/dev/nvidiactl").exists()

    def missing(self, python: Interpreter = OWN) -> list[str]:
        lines = []
        if not self.present():
            lines.append("no NVIDIA GPU: /dev/nvidiactl does not exist")
        if python.version("vllm") is None:
            cure = python.install("cuda", "vllm==VERSION")
            lines.append(f"vLLM is not installed: {cure}")
        return lines

    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        devices = [
            Device(int(index), name, _bytes(total), _bytes(used))
            for index, name, total, used in _query("index,name,memory.total,memory.used")
        ]
        visible = variables.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return devices
        return _visible(devices, [part.strip() for part in visible.split(",") if part.strip()])

    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = MEMORY_SHARE,
        eager: bool = False,
        python: Interpreter = OWN,
    ) -> dict[str, str]:
        available = len(self.devices(variables))
        if ranks > available:
            raise UserError(
                f"parallelism: tp×pp×dp={ranks} needs {ranks} GPUs, {available} are visible"
            )
        return {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}

    def versions(self) -> dict[str, str]:
        rows = _query("driver_version")
        return {"driver": rows[0][0] if rows else "unknown"}


def _visible(devices: list[Device], chosen: list[str]) -> list[Device]:
    """As CUDA reads the variable: in its order, up to the first index that does not exist.

    A name such as GPU-… or MIG-… cannot be matched to an index here: it counts all the same.
    """
    by_index = {str(device.index): device for device in devices}
    seen: list[Device] = []
    for rank, name in enumerate(chosen):
        if name.startswith(("GPU-", "MIG-")):
            seen.append(Device(rank, name))
        elif name in by_index:
            seen.append(by_index[name])
        else:
            break
    return seen


def _bytes(mib: str) -> int | None:
    """`[N/A]` where a GPU shares the machine's memory."""
    return int(mib) << 20 if mib.isdecimal() else None


def _query(fields: str) -> list[list[str]]:
    """Rows of nvidia-smi's answer; what is not a row (no driver, no devices) is left out."""
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if answer.returncode != 0:
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields.split(","))]
