"""The interface of a platform. Nothing here may initialise a device."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.interpreters import OWN, Interpreter

if TYPE_CHECKING:
    from runner.platforms.ascend import Machine

UNKNOWN = "unknown"
# vLLM's own default of gpu_memory_utilization.
MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class DeviceProcess:
    """A process that holds memory of a device."""

    pid: int
    name: str
    memory_bytes: int


@dataclass(frozen=True)
class DeviceIds:
    """npu-smi's ids of a device: NPU and chip, and physical id and PCI address if shown."""

    npu: int
    chip: int
    phy: int | None = None
    bus: str | None = None

    def __str__(self) -> str:
        phy = "" if self.phy is None else f", phy {self.phy}"
        return f"NPU {self.npu}, chip {self.chip}{phy}{f', bus {self.bus}' if self.bus else ''}"


@dataclass(frozen=True)
class Device:
    """One device for an engine rank; `index` is the engine's own numbering."""

    index: int
    name: str
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    health: str = UNKNOWN
    processes: tuple[DeviceProcess, ...] = ()
    # The total that an engine sees, where it is less than the vendor's tool shows.
    memory_seen_bytes: int | None = None
    ids: DeviceIds | None = None

    @property
    def engine_memory_bytes(self) -> int | None:
        """Total memory that the engine's gpu_memory_utilization refers to."""
        return self.memory_seen_bytes or self.memory_total_bytes


class Platform(ABC):
    """Ascend, CUDA or CPU."""

    name: str

    @abstractmethod
    def present(self) -> bool:
        """Return whether the machine has such a device; cheap, called at every start."""

    @abstractmethod
    def missing(self, python: Interpreter = OWN) -> list[str]:
        """Return a line for each requirement that this machine lacks to run an engine.

        `python` is the interpreter of the engine.
        """

    @abstractmethod
    def devices(self, variables: Mapping[str, str] = os.environ) -> list[Device]:
        """Return the devices that an engine started with these variables could use."""

    @abstractmethod
    def worker_environment(
        self,
        ranks: int,
        variables: Mapping[str, str] = os.environ,
        *,
        memory_share: float = MEMORY_SHARE,
        eager: bool = False,
        python: Interpreter = OWN,
    ) -> dict[str, str]:
        """Return variables only for the worker, for an engine with this many ranks.

        `variables` are those that the worker would start with, `memory_share` the part of each
        device's memory that its engine will ask for; an `eager` engine compiles no graph.

        Raises:
            UserError: if this machine cannot hold so many.
        """

    def machine(self, python: Interpreter = OWN) -> Machine | None:
        """Return the Ascend machine as npu-smi and CANN describe it; None on other platforms."""
        return None

    def versions(self) -> dict[str, str]:
        """Return driver and toolkit versions; 'unknown' if they cannot be read."""
        return {}

    def unknown(self, python: Interpreter = OWN) -> dict[str, tuple[str, ...]]:
        """Return the places that were checked for each value that is unknown."""
        return {}
