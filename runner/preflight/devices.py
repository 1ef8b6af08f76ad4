"""Check that enough NPUs are visible, healthy and free for one engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.config.schema import RunConfig
from runner.platforms.ascend import Machine
from runner.platforms.npus import VISIBLE, ill, label, preferred, taken, visible, warned
from runner.problem import OVERSIZED, UNHEALTHY, Problem, smaller_tp


def problems(config: RunConfig, machine: Machine, variables: Mapping[str, str]) -> list[Problem]:
    """Return a problem if too few devices are visible, healthy and free for one engine."""
    text = variables.get(VISIBLE)
    seen, reason = visible(text, len(machine.devices))
    if reason and not seen:
        return [Problem(f"{VISIBLE}={text}: {reason}")]
    if config.engine.spans_nodes:
        return []  # the engine spans nodes, and this one sees its own devices alone
    needed = config.parallelism.devices
    share = config.engine.gpu_memory_utilization
    devices = [machine.devices[index] for index in seen]
    against = {
        label(device): {OVERSIZED: taken(device, share), UNHEALTHY: ill(device)}
        for device in devices
    }
    lost = {
        name: {switch: why for switch, why in reasons.items() if why}
        for name, reasons in against.items()
        if any(reasons.values())
    }
    usable = len(seen) - len(lost)
    if usable >= needed:
        return []
    what = f"parallelism: tp×pp×dp={needed} needs {needed} NPUs"
    if len(seen) < needed:
        here = f"{len(machine.devices)} here"
        if machine.shown > len(machine.devices):
            here += f" of the {machine.shown} that npu-smi shows (/dev/davinci* has no more)"
        here += f", {len(seen)} visible" if text else ""
        here += f" ({VISIBLE}={text}: {reason})" if reason else ""
        return [Problem(f"{what}, {here}", smaller_tp(config), "make more devices visible")]
    shown = "; ".join(f"{name}: {', '.join(why.values())}" for name, why in lost.items())
    return [
        Problem(
            f"{what}, {usable} of the {len(seen)} visible are healthy and free. {shown}",
            smaller_tp(config),
            switches=_enough(needed - usable, [set(why) for why in lost.values()]),
        )
    ]


def _enough(wanted: int, lost: Sequence[set[str]]) -> tuple[str, ...]:
    """The fewest switches that bring so many devices back."""
    for switches in ((OVERSIZED,), (UNHEALTHY,)):
        if sum(reasons <= set(switches) for reasons in lost) >= wanted:
            return switches
    return (OVERSIZED, UNHEALTHY)


def warnings(config: RunConfig, machine: Machine, variables: Mapping[str, str]) -> list[str]:
    """Return a warning for each device that is used despite its health warning."""
    seen, _ = visible(variables.get(VISIBLE), len(machine.devices))
    chosen = preferred(
        [machine.devices[index] for index in seen],
        config.parallelism.devices,
        config.engine.gpu_memory_utilization,
    )
    return [
        f"{label(device)}: health Warning, Huawei's lowest alarm level; used because there are not "
        "enough better devices (for details: npu-smi info -t health)"
        for device in chosen
        if warned(device)
    ]
