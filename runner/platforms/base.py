"""What the runner asks of a kind of machine. Nothing here may initialise a device."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One device that an engine rank can own."""

    index: int
    name: str
    memory_total_bytes: int | None = None


class Platform(ABC):
    """Ascend, CUDA or CPU."""

    name: str

    @abstractmethod
    def present(self) -> bool:
        """Whether the machine has such a device; cheap, asked at every start."""

    @abstractmethod
    def missing(self) -> list[str]:
        """What this machine lacks to run an engine here, a line each; empty if nothing."""

    @abstractmethod
    def devices(self) -> list[Device]:
        """The devices that an engine started now could use."""

    @abstractmethod
    def worker_environment(self, ranks: int) -> dict[str, str]:
        """Variables for the worker alone, for an engine of so many ranks.

        Raises:
            UserError: if this machine cannot hold so many.
        """

    def versions(self) -> dict[str, str]:
        """Driver and toolkit versions; 'unknown' where they cannot be read."""
        return {}


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
