"""The platforms that vLLM runs on: devices, missing requirements, the worker's environment."""

from __future__ import annotations

from runner.platforms.ascend import Ascend
from runner.platforms.base import Device, DeviceIds, DeviceProcess, Platform
from runner.platforms.cpu import Cpu
from runner.platforms.cuda import Cuda
from runner.platforms.remote import Remote

PLATFORMS: dict[str, Platform] = {
    platform.name: platform for platform in (Ascend(), Cuda(), Cpu(), Remote())
}


def detect() -> Platform:
    """Return this machine's platform: an NPU, else a GPU, else the CPU."""
    return next(platform for platform in PLATFORMS.values() if platform.present())


def cuda_or_cpu() -> Platform:
    """Return the platform for transformers, which does not support NPUs without torch-npu."""
    cuda = PLATFORMS["cuda"]
    return cuda if cuda.present() else PLATFORMS["cpu"]


__all__ = ["PLATFORMS", "Device", "DeviceIds", "DeviceProcess", "Platform", "cuda_or_cpu", "detect"]
