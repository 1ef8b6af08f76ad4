"""Stands in for an NPU: what vllm-ascend's configuration path touches of torch_npu, and no more.

Only `upstream.py` uses this, in a process of its own, before vllm is imported. Nothing here
computes: a call that would need a device returns a mock, and a configuration that depended on its
value would show as a failure of the mock, not as an answer.
"""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

# series: what the build says of itself, what the chip says, and its memory in bytes.
SERIES = {
    "A2": ("A2", 223, 64 << 30),
    "A3": ("A3", 253, 64 << 30),
    "310P": ("_310P", 203, 44 << 30),
}


class StubModule(ModuleType):
    """A module and package of which every attribute exists, as a mock."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        mock = MagicMock(name=f"{self.__name__}.{name}")
        setattr(self, name, mock)
        return mock


def install(series: str) -> None:
    """Make this process look like a machine with eight NPUs of one series, to vllm-ascend."""
    import torch

    device_type, soc_version, memory = SERIES[series]
    npu = StubModule(
        "torch_npu.npu",
        is_available=lambda: True,
        device_count=lambda: 8,
        current_device=lambda: 0,
        get_soc_version=lambda: soc_version,
        get_device_name=lambda device=0: f"Ascend {series}",
        mem_get_info=lambda device=0: (memory, memory),
        is_initialized=lambda: False,
        _is_in_bad_fork=lambda: False,
        is_bf16_supported=lambda: series != "310P",
    )
    modules = {"torch_npu": StubModule("torch_npu", npu=npu), "torch_npu.npu": npu}
    for name in ("torch_npu._C", "torch_npu._C._distributed_c10d", "torch_npu.utils"):
        modules[name] = StubModule(name)
    # CUDA builds where this project is developed; later releases import them if they are installed.
    for name in ("torchaudio", "torchcodec", "torchcodec.decoders"):
        modules[name] = StubModule(name)
    sys.modules.update(modules)

    torch.utils.rename_privateuse1_backend("npu")
    torch._register_device_module("npu", npu)
    torch.distributed.is_hccl_available = lambda: True

    from vllm_ascend import _build_info

    _build_info.__device_type__ = device_type
    _declare_torchvision()


def _declare_torchvision() -> None:
    """The registry's torchvision is a CUDA build: its schemas must exist before it is imported."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_kept"] = library  # the schemas live as long as this object
