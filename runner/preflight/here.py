"""What was read of this machine and the weights, and the problems of a configuration here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.inputs.weights import Weights
from runner.memory import StoredWeights, stored_weights
from runner.platforms import PLATFORMS, Device, Platform, compatibility
from runner.platforms.ascend import Machine
from runner.preflight import ascend, interpreter, layout, memory
from runner.problem import Problem, smaller_tp
from runner.runtimes import runtime_of


@dataclass(frozen=True)
class Here:
    """The machine, read once; `problems` can then judge many configurations."""

    platform: Platform
    missing: tuple[str, ...]
    weights: Weights | None
    stored: StoredWeights
    devices: tuple[Device, ...]
    # What the platform says to an engine of so many ranks, by their number.
    _capacity: dict[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig, weights: Weights | None) -> Here:
        platform = PLATFORMS[config.engine.platform]
        runtime = runtime_of(config.engine.runtime)
        directory = weights.directory if weights is not None else None
        return cls(
            platform,
            (*interpreter.missing(config), *runtime.missing(config, platform)),
            weights,
            stored_weights(directory if runtime.on_devices else None),
            tuple(platform.devices(_variables(config))) if weights is not None else (),
        )

    def problems(self, config: RunConfig) -> list[Problem]:
        """Return every problem of the configuration, the machine's first."""
        found = [Problem(f"{_engine(config)}: {line}") for line in self.missing]
        runtime = runtime_of(config.engine.runtime)
        found += runtime.problems(config, self.weights)
        if runtime.on_devices and not self.missing:
            found += self._platform_problems(config)
        if self.weights is not None:
            found += layout.problems(config, self.weights.config)
            found += memory.needed(config, self.weights, self.stored, self.devices).problems
        return found

    def memory(self, config: RunConfig) -> str:
        """Return the memory estimate as text; empty if the weights are unknown."""
        if self.weights is None:
            return ""
        return memory.needed(config, self.weights, self.stored, self.devices).words

    def warnings(self, config: RunConfig) -> list[str]:
        """Return warnings that don't stop the run."""
        if self.missing or (machine := self._machine(config)) is None:
            return []
        return [
            *ascend.warnings(config, machine, _variables(config)),
            *compatibility.notes(_packages(config), machine.versions["cann"]),
        ]

    def environment(self, config: RunConfig) -> dict[str, str]:
        """Return variables only for the worker; empty if the machine cannot hold the engine."""
        if self.missing:
            return {}
        try:
            return self._worker_environment(config)
        except UserError:
            return {}  # `problems` has said why

    def _platform_problems(self, config: RunConfig) -> list[Problem]:
        machine = self._machine(config)
        if machine is None:
            return self._capacity_problems(config)
        return [
            *ascend.problems(config, self.weights, machine, _variables(config)),
            *ascend.version_problems(
                _packages(config),
                machine.versions["cann"],
                config.engine.interpreter.python,
            ),
        ]

    def _machine(self, config: RunConfig) -> Machine | None:
        return self.platform.machine(config.engine.interpreter)

    def _capacity_problems(self, config: RunConfig) -> list[Problem]:
        wanted = config.ranks_here
        if wanted not in self._capacity:
            try:
                self._worker_environment(config)
                self._capacity[wanted] = ()
            except UserError as error:
                self._capacity[wanted] = error.problems
        return [Problem(line, smaller_tp(config)) for line in self._capacity[wanted]]

    def _worker_environment(self, config: RunConfig) -> dict[str, str]:
        runtime = runtime_of(config.engine.runtime)
        return runtime.environment(config, self.platform, _variables(config))


def _variables(config: RunConfig) -> Mapping[str, str]:
    """Those that the worker would start with."""
    return {**os.environ, **config.engine.env}


def _engine(config: RunConfig) -> str:
    engine = config.engine
    placed = runtime_of(engine.runtime).on_devices
    named = f"engine={engine.platform if placed else engine.runtime}"
    return named if engine.python is None else f"{named} engine.python={engine.python}"


def _packages(config: RunConfig) -> dict[str, str]:
    version_of = config.engine.interpreter.version
    return {name: version for name in compatibility.PACKAGES if (version := version_of(name))}
