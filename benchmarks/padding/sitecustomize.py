"""Pads each step of vLLM's engine to at least `PADDED_STEP_S` seconds, like a large model's steps.

Python imports this module at startup if its folder is on PYTHONPATH, so it reaches a worker,
`lm_eval` and the engine's own process without changes to them. `PADDED_CLASS` is the class whose
step is padded: LLMEngine, which receives the requests, or EngineCore, which may run in a separate
process.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

CLASS = os.environ.get("PADDED_CLASS", "LLMEngine")
MODULE = {"LLMEngine": "vllm.v1.engine.llm_engine", "EngineCore": "vllm.v1.engine.core"}[CLASS]
STEP_S = float(os.environ["PADDED_STEP_S"])


class _Padded(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        engine_class = getattr(module, CLASS)
        step = engine_class.step

        @functools.wraps(step)
        def padded(engine: Any) -> Any:
            began = time.monotonic()
            outputs = step(engine)
            time.sleep(max(0.0, STEP_S - (time.monotonic() - began)))
            return outputs

        engine_class.step = padded


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Padded(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
