"""What computes the answers: one package for each runtime, registered in `runner.config.rules`."""

from __future__ import annotations

import importlib

from runner.config.rules import RUNTIMES
from runner.runtimes.base import Runtime

__all__ = ["Runtime", "runtime_of"]


def runtime_of(name: str) -> Runtime:
    """The runtime of this name, which must be registered. Imports no engine."""
    runtime: Runtime = importlib.import_module(RUNTIMES[name]).RUNTIME
    return runtime
