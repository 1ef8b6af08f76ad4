"""Check that weights and one sequence's KV cache fit on a device (docs/memory.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema import RunConfig
from runner.inputs.weights import Weights
from runner.language import gettext
from runner.memory import Layout, Room, Shortage, StoredWeights, describe, estimate, fits
from runner.platforms import Device
from runner.problem import OVERSIZED, Cure, Problem
from runner.runtimes import runtime_of


@dataclass(frozen=True)
class Needed:
    """The estimate as text, and the problems with it."""

    words: str
    problems: tuple[Problem, ...] = ()


def needed(
    config: RunConfig, weights: Weights, stored: StoredWeights, devices: Sequence[Device]
) -> Needed:
    """Judge the smallest device whose memory is known.

    Weights that are only on a hub cannot be looked into, and are not estimated.
    """
    runtime = runtime_of(config.engine.runtime)
    if not runtime.local:
        return Needed(gettext("not estimated: the server is already running"))
    if weights.directory is None:
        return Needed(gettext("not estimated: the weights are not on this machine"))
    if not runtime.on_devices:
        return Needed(_weights_alone(weights))
    arguments = runtime.arguments(config)
    layout = Layout.of(arguments)
    overrides = arguments.get("hf_overrides")
    model = {**weights.config, **(overrides if isinstance(overrides, dict) else {})}
    known = [each for each in devices if each.engine_memory_bytes]
    # On a CPU the ranks share one memory, and vLLM sets the KV cache's size aside itself.
    if not known or config.engine.platform == "cpu":
        return Needed(describe(estimate(model, stored, layout), layout))
    smallest = min(known, key=lambda each: each.engine_memory_bytes or 0)
    # Each of dp replicas is an engine of its own, on its share of the devices.
    ranks = len(devices) // config.parallelism.dp
    seen, shown = smallest.engine_memory_bytes or 0, smallest.memory_total_bytes
    share = arguments["gpu_memory_utilization"]
    room = Room(seen, share, ranks, shown if shown != seen else None)
    words = describe(estimate(model, stored, layout), layout, room)
    short = fits(model, stored, layout, room)
    return Needed(words, (_problem(short),) if short else ())


def _problem(short: Shortage) -> Problem:
    cures = [Cure({"parallelism.tp": size}, " or more") for size in short.wider]
    if short.longest is not None:
        cures.append(Cure({"engine.max_model_len": short.longest}, " or less"))
    if short.share is not None:
        cures.append(Cure({"engine.gpu_memory_utilization": short.share}, " or more"))
    otherwise = "use devices with more memory, more of them, or a quantized checkpoint"
    return Problem(short.what, tuple(cures), otherwise, (OVERSIZED,))


def _weights_alone(weights: Weights) -> str:
    """transformers sets no KV cache aside, and takes more of the device as it needs it."""
    if not weights.stored_bytes:
        return gettext(
            "weights of unknown size as stored; the KV cache grows with the batch, and is not "
            "estimated"
        )
    return gettext(
        "weights of {size:.3g} GiB as stored; the KV cache grows with the batch, and is not "
        "estimated",
        size=weights.stored_bytes / 2**30,
    )
