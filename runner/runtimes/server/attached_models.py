"""The model classes for a server that is already running; they need no vLLM on this machine."""

from __future__ import annotations

from runner.runtimes.server.without_generation import import_without_generation
from runner.runtimes.server.without_vllm import absent

with absent():
    import_without_generation()
    from runner.runtimes.server.models import MODEL_CLASSES, check_engine_args

__all__ = ["MODEL_CLASSES", "check_engine_args"]
