"""Whether weights and one sequence's KV cache have room on a device (docs/memory.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.memory import Layout, Room, describe, estimate, fits, stored_weights
from runner.platforms import Device
from runner.runtimes import engine_args


@dataclass(frozen=True)
class Needed:
    """The estimate in words, and what stands against it."""

    words: str
    problems: tuple[str, ...] = ()


def needed(config: RunConfig, weights: Weights, devices: Sequence[Device]) -> Needed:
    """Judge the smallest of the devices; one that does not tell its memory is not judged.

    Weights that are only on a hub cannot be looked into, and are not estimated.
    """
    if weights.directory is None:
        return Needed("not estimated: the weights are not on this machine")
    if config.engine.runtime == "transformers":
        return Needed(_weights_alone(weights))
    arguments = engine_args(config)
    stored, layout = stored_weights(weights.directory), Layout.of(arguments)
    overrides = arguments.get("hf_overrides")
    model = {**weights.config, **(overrides if isinstance(overrides, dict) else {})}
    sizes = [each.memory_total_bytes for each in devices if each.memory_total_bytes]
    # On a CPU the ranks share one memory, and vLLM sets the KV cache's size aside itself.
    if not sizes or config.engine.platform == "cpu":
        return Needed(describe(estimate(model, stored, layout), layout))
    # Each of dp replicas is an engine of its own, on its share of the devices.
    ranks = len(devices) // config.parallelism.dp
    room = Room(min(sizes), arguments["gpu_memory_utilization"], ranks)
    words = describe(estimate(model, stored, layout), layout, room)
    problem = fits(model, stored, layout, room)
    return Needed(words, (problem,) if problem else ())


def _weights_alone(weights: Weights) -> str:
    """transformers sets no KV cache aside, and takes more of the device as it needs it."""
    size = f"{weights.stored_bytes / 2**30:.3g} GiB" if weights.stored_bytes else "unknown size"
    return f"weights of {size} as stored; the KV cache grows with the batch, and is not estimated"
