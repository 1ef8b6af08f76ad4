"""How somebody else can see the same: commands, and a text for an issue without private paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runner.config.recorded import Recorded, call
from runner.environment import Environment
from runner.installed import MOVING
from runner.plan import Plan
from runner.trace import findings as trace
from runner.why import findings
from runner.why.result import Command, Stack, Why
from runner.why.search import Cause
from runner.why.switches import Switch

# The folders of a path, not those of a hub id or an address.
FOLDERS = re.compile(r"(?<![\w./~-])~?/(?:[^\s/,:;\[\]{}'\"]+/)+")
# Settings of where results go, which nobody else needs.
PRIVATE = ("output_dir", "tracking", "journal", "limits", "sweep", "hydra")


def commands(
    good: Recorded, reference: Path, switches: Sequence[Switch], causes: Sequence[Cause]
) -> list[Command]:
    """Return the commands that replay the good run's answers without and with each cause."""
    if not causes:
        return []
    replay = {"verdict.rule": "replay", "verdict.reference": str(reference)}
    found = [Command("without", call(good, {**replay, "output_dir": "outputs/why-without"}))]
    for number, cause in enumerate(causes, 1):
        changes = {key: value for n in cause.switches for key, value in switches[n].bad.items()}
        place = {"output_dir": f"outputs/why-with-{number}"}
        said = ", ".join(str(change) for n in cause.switches for change in switches[n].changes)
        model = _model(good) if "model.pretrained" in changes else {}
        text = call(good, {**model, **changes, **replay, **place})
        found.append(Command(f"with {said}", text))
    return found


def _model(good: Recorded) -> dict[str, str]:
    """The model file, which a command with other weights has to name."""
    named = any(each.startswith("model=") for each in good.words)
    return {} if named else {"model": str(good.value("model.name"))}


def stack(good: Recorded, plan: Plan, environment: Environment) -> Stack:
    """Return what the probes ran on."""
    overrides = [each for each in good.words if "=" in each and not each.startswith("-")]
    asked = tuple(
        each
        for each in overrides
        if "/" not in each and each.lstrip("+~").partition("=")[0].split(".")[0] not in PRIVATE
    )
    versions = {name: found for name in MOVING if (found := environment.packages.get(name))}
    return Stack(
        model=plan.model,
        tasks=", ".join(each.task for each in plan.evaluations),
        hardware=environment.hardware,
        versions=versions | environment.toolkit,
        asked=asked,
    )


def issue(why: Why) -> str:
    """Return Markdown for an issue: the setting, numbers and versions. Paths are left out."""
    if not why.causes or why.stack is None:
        return ""
    stack = why.stack
    lines = [
        f"{_shortened(findings.headline(why))}.",
        "",
        f"- Model: {stack.model}; tasks: {stack.tasks}; hardware: {stack.hardware}",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in stack.versions.items())}",
        f"- Settings of both runs: {' '.join(stack.asked) or 'the defaults'}",
        "- Measured by replay: the engine generates the same tokens with both settings, and its "
        "log-probabilities are compared.",
    ]
    for cause in why.causes:
        side = cause.probe.side
        if side is not None:
            lines.append(
                f"- {_shortened(findings.named(why, cause.switches))}: logits differ by "
                f"{findings.size(cause.probe)} nats (RMS), {side.bad} of {side.told} questions "
                "are beyond noise"
            )
    lines += [f"- {trace.headline(each.trace)}" for each in why.origins if each.trace is not None]
    return "\n".join(lines)


def _shortened(text: str) -> str:
    """The text with the last name of each path only."""
    return FOLDERS.sub("", text)
