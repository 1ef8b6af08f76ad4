"""NVIDIA GPUs, read with nvidia-smi: the parent never initialises CUDA."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from runner.errors import UserError
from runner.platforms.base import Device, Platform, installed_version


class Cuda(Platform):
    name = "cuda"

    def present(self) -> bool:
        return Path("/dev/nvidiactl").exists()

    def missing(self) -> list[str]:
        lines = []
        if not self.present():
            lines.append("no NVIDIA GPU: /dev/nvidiactl does not exist")
        if installed_version("vllm") is None:
            lines.append("vLLM is not installed: pip install 'ascend-accuracy-runner[cuda]'")
        return lines

    def devices(self) -> list[Device]:
        rows = _query("index,name,memory.total")
        devices = [Device(int(i), name, int(mib) << 20) for i, name, mib in rows]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return devices
        chosen = [part.strip() for part in visible.split(",") if part.strip()]
        # A name such as GPU-… or MIG-… cannot be matched to an index here: count it all the same.
        return [
            next((d for d in devices if str(d.index) == name), Device(rank, name))
            for rank, name in enumerate(chosen)
        ]

    def worker_environment(self, ranks: int) -> dict[str, str]:
        available = len(self.devices())
        if ranks > available:
            raise UserError(
                f"parallelism: tp×pp×dp={ranks} needs {ranks} GPUs, {available} are visible"
            )
        return {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}

    def versions(self) -> dict[str, str]:
        rows = _query("driver_version")
        return {"driver": rows[0][0] if rows else "unknown"}


def _query(fields: str) -> list[list[str]]:
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return [
        [cell.strip() for cell in line.split(",")]
        for line in answer.stdout.splitlines()
        if line.strip()
    ]
