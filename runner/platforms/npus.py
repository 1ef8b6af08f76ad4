"""Select the NPUs of an engine: visible, healthy and free ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.platforms.base import UNKNOWN, Device

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
# Digits of a device's number that are read; no machine has a billion devices.
BEYOND_ALL = 10
# The most that an idle device shows as used: 2.8 to 3.4 GiB of 64, 5.9 of 128 (950), 1.8 of 21
# (310P).
IDLE_BYTES, IDLE_SHARE = 3420 << 20, 0.06


def visible(text: str | None, count: int) -> tuple[tuple[int, ...], str]:
    """Return the devices visible to torch_npu, and why others in the variable are not.

    As torch_npu 2.10.0.post4 reads it (npu/__init__.py, _parse_visible_devices and
    _device_count_ascend_hal): up to the first character that is neither digit nor comma, and up to
    the first number that no device has; none at all unless strictly ascending.
    """
    if text is None:
        return tuple(range(count)), ""
    readable = re.match(r"[0-9,]*", text)
    assert readable is not None
    numbers: list[int] = []
    for part in readable.group().split(","):
        if not part:
            break
        number = int(part[:BEYOND_ALL])
        if numbers and number <= numbers[-1]:
            return (), "must be strictly ascending, or torch_npu sees no device at all"
        if number >= count:
            last = f"the last is {count - 1}" if count else "there are none"
            return tuple(numbers), f"no device {part[:BEYOND_ALL]} here; {last}"
        numbers.append(number)
    rest = text[len(readable.group()) :]
    if rest:
        why = f"torch_npu stops reading at {rest[0]!r}; write digits and commas only"
        return tuple(numbers), why
    return tuple(numbers), "" if numbers else "lists no device"


def preferred(devices: Sequence[Device], ranks: int, share: float) -> list[Device]:
    """Return the devices for an engine with this many ranks, in ascending order.

    Healthy and free ones first, then those with a warning, then the others.
    """

    def rank(device: Device) -> int:
        if ill(device) or taken(device, share):
            return 2
        return 1 if warned(device) else 0

    best = sorted(devices, key=rank)[:ranks]
    return sorted(best, key=lambda device: device.index)


def ill(device: Device) -> str | None:
    """Return why the device is unhealthy by npu-smi; None if it is healthy or unknown."""
    return None if device.health in ("OK", "Warning", UNKNOWN) else f"health {device.health}"


def warned(device: Device) -> bool:
    """Return whether the device has Huawei's lowest alarm level, with which it still works."""
    return device.health == "Warning"


def taken(device: Device, share: float) -> str | None:
    """Return why this fraction of the device's memory is not free; None if it is.

    vllm-ascend's worker refuses to start where less is free than gpu_memory_utilization × the total
    that torch_npu sees.
    """
    total, used = device.memory_total_bytes, device.memory_used_bytes
    if total is None or used is None or used <= max(IDLE_BYTES, IDLE_SHARE * total):
        return None
    wanted = share * (device.engine_memory_bytes or total)
    if total - used >= wanted:
        return None
    free = f"{_gib(total - used)} of {_gib(total)} GiB free"
    reason = f"{free}, gpu_memory_utilization={share:g} needs {_gib(wanted)}"
    holders = ", ".join(
        f"{process.name} (pid {process.pid}, {_gib(process.memory_bytes)} GiB)"
        for process in device.processes
    )
    return f"{reason}; held by {holders}" if holders else reason


def label(device: Device) -> str:
    """Return `NPU 2`, numbered as in ASCEND_RT_VISIBLE_DEVICES, with npu-smi's ids if different."""
    own = device.ids
    if own is None or (own.npu, own.chip) == (device.index, 0):
        return f"NPU {device.index}"
    return f"NPU {device.index} (npu-smi: {own})"


def _gib(size: float) -> str:
    return f"{size / (1 << 30):.1f}"
