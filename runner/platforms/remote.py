"""The machine of a server that is already running: nothing is known of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from runner.interpreters import OWN, Interpreter
from runner.platforms.base import MEMORY_SHARE, Device, Platform
from runner.platforms.cpu import Cpu, python_path


class Remote(Platform):
    name = "remote"

    def present(self) -> bool:
        return False

    def missing(self, python: Interpreter = OWN) -> list[str]:
        return []

    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        return []

    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = MEMORY_SHARE,
        eager: bool = False,
        python: Interpreter = OWN,
    ) -> dict[str, str]:
        # Processors of images import torchvision, which needs the cure beside a CPU build of vLLM.
        if Cpu().missing(python):
            return {}
        return {"PYTHONPATH": os.pathsep.join(python_path(variables))}
