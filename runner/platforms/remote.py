"""The machine of a server that is already running: nothing is known of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from runner.platforms.base import MEMORY_SHARE, Device, Platform


class Remote(Platform):
    name = "remote"

    def present(self) -> bool:
        return False

    def missing(self) -> list[str]:
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
    ) -> dict[str, str]:
        return {}
