"""Find out-of-memory errors of vLLM, torch and torch_npu in a log, and the settings that help.

The wordings are those of vllm 0.23 to 0.32 (v1/core/kv_cache_utils.py, v1/worker/utils.py,
gpu_model_runner.py, cpu_worker.py), of vllm-ascend 0.23 (worker/worker.py), and of the allocators
of torch and torch_npu as issues of vllm (#16343) and vllm-ascend (#1987) show them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.platforms.base import MEMORY_SHARE

NUMBER = r"([0-9.]+)"
SIZE = rf"{NUMBER} (KiB|MiB|GiB)"
GIB = {"KiB": 1 / (1 << 20), "MiB": 1 / (1 << 10), "GiB": 1.0}
# A share of the device's memory above this leaves nothing for what vLLM does not count.
MOST = 0.95
LOADED = re.compile(r"Model loading took|Loading model weights took")


@dataclass(frozen=True)
class Shortage:
    """What ran out, and the fix; `taken` if other processes used the memory."""

    said: str
    cure: str
    taken: bool = False


def find(log: str, engine_args: dict[str, Any], platform: str) -> Shortage | None:
    """Return the shortage in the log of an engine that was started with these arguments."""
    asked = _Asked(engine_args, platform)
    for pattern, explain in PATTERNS:
        found = re.search(pattern, log)
        if found is not None:
            return explain(found, asked, log)
    return None


@dataclass(frozen=True)
class _Asked:
    arguments: dict[str, Any]
    platform: str

    @property
    def share(self) -> float:
        return float(self.arguments.get("gpu_memory_utilization", MEMORY_SHARE))

    def more_devices(self) -> str:
        """Return the setting for twice the devices, each with half of the weights and the cache."""
        return f"parallelism.tp={2 * int(self.arguments.get('tensor_parallel_size', 1))}"


def _cache_too_small(found: re.Match[str], asked: _Asked, log: str) -> Shortage:
    length, needed, room, fits = found.groups()
    said = (
        f"one request of max_model_len={length} needs {needed} GiB of KV cache, but only {room} "
        "GiB is available"
    )
    most = float(needed) + 0.005  # vLLM rounds to hundredths
    cures = [f"engine.max_model_len={fits} (what vLLM estimates to fit)"] if fits else []
    if "kv_cache_memory_bytes" in asked.arguments:
        cures.append(f"engine.extra.kv_cache_memory_bytes={math.ceil(most * (1 << 30))}")
    elif asked.platform == "cpu":
        cures.append(f"engine.env.VLLM_CPU_KVCACHE_SPACE={math.ceil(most)}")
    else:
        cures += [*_higher_share(asked), asked.more_devices()]
    return Shortage(said, _set(cures))


def _cache_too_small_once(found: re.Match[str], asked: _Asked, log: str) -> Shortage:
    length, fits = found.groups()
    said = f"max_model_len={length} does not fit in the KV cache"
    cures = [f"engine.max_model_len={fits}", *_higher_share(asked), asked.more_devices()]
    return Shortage(said, _set(cures))


def _no_cache(found: re.Match[str], asked: _Asked, log: str) -> Shortage:
    said = (
        "the weights and one forward pass leave no room for a KV cache within "
        f"engine.gpu_memory_utilization={asked.share:g}"
    )
    return Shortage(said, _set([*_higher_share(asked), asked.more_devices()]))


def _taken(found: re.Match[str], asked: _Asked, log: str) -> Shortage:
    free, total = float(found[1]), float(found[2])
    fits = math.floor(100 * free / total) / 100
    said = (
        f"only {free:g} of {total:g} GiB were free, less than "
        f"engine.gpu_memory_utilization={asked.share:g} needs; another process uses the rest, or "
        "has just ended"
    )
    cure = _set([f"engine.gpu_memory_utilization={fits:g}"]) if fits > 0 else ""
    return Shortage(
        said,
        f"{cure}, or stop the process that uses it" if cure else "stop the process that uses it",
        True,
    )


def _sampler(found: re.Match[str], asked: _Asked, log: str) -> Shortage:
    requests = int(found[1])
    said = f"not enough memory to sample for {requests} requests at once"
    return Shortage(said, _set([f"engine.extra.max_num_seqs={max(1, requests // 2)}"]))


def _allocation(found: re.Match[str], asked: _Asked, log: str) -> Shortage:
    tried = float(found[1]) * GIB[found[2]]
    said = f"could not allocate {tried:.2f} GiB on the device"
    if not LOADED.search(log):
        loading = [asked.more_devices(), "quantized weights in model.pretrained"]
        return Shortage(f"{said} while the weights were loaded", _set(loading))
    numbers = found[0]
    total = re.search(rf"{SIZE} total capacity|total capacity of {SIZE}", numbers)
    free = re.search(rf"{SIZE} free|of which {SIZE} is free", numbers)
    cures: list[str] = []
    if total and free:
        missing = (tried - _gib(free)) / _gib(total)
        lower = math.floor(100 * (asked.share - max(missing, 0) - 0.01)) / 100
        if lower > 0:
            cures.append(f"engine.gpu_memory_utilization={lower:g}")
    sequences = int(asked.arguments.get("max_num_seqs", 256))
    cures += [f"engine.extra.max_num_seqs={max(1, sequences // 2)}", asked.more_devices()]
    return Shortage(f"{said} in addition to the weights and the KV cache", _set(cures))


def _higher_share(asked: _Asked) -> list[str]:
    return [f"engine.gpu_memory_utilization={MOST:g}"] if asked.share < MOST else []


def _gib(found: re.Match[str]) -> float:
    number, unit = [group for group in found.groups() if group is not None]
    return float(number) * GIB[unit]


def _set(cures: list[str]) -> str:
    return f"set {', or '.join(cures)}"


_Explain = Callable[["re.Match[str]", _Asked, str], Shortage]
PATTERNS: tuple[tuple[str, _Explain], ...] = (
    (
        rf"max seq len \(([0-9]+)\), \({NUMBER} GiB KV cache is needed, which is larger than the "
        rf"available KV cache memory \({NUMBER} GiB\)"
        r"(?:.*?estimated maximum model length is ([0-9]+))?",
        _cache_too_small,
    ),
    (
        r"max seq len \(([0-9]+)\) is larger than the maximum number of tokens that can be stored "
        r"in KV cache \(([0-9]+)\)",
        _cache_too_small_once,
    ),
    (r"No available memory for the cache blocks", _no_cache),
    (
        rf"(?:Free memory on device|Available memory on node)[^(]*\({NUMBER}/{NUMBER} GiB\) on "
        r"startup is less than (?:desired|the engine's budget)",
        _taken,
    ),
    (r"out of memory occurred when warming up (?:sampler|pooler) with ([0-9]+)", _sampler),
    (rf"(?:NPU|CUDA) out of memory\. Tried to allocate {SIZE}.*", _allocation),
)
