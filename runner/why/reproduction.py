"""How somebody else can see the same: commands, and a text for an issue without private paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.config.recorded import Recorded, call
from runner.environment import Environment
from runner.installed import MOVING
from runner.plan import Plan
from runner.trace import findings as trace
from runner.why import findings, public
from runner.why.found import Cause
from runner.why.result import Command, Stack, Why
from runner.why.switches import Switch

# Settings of where results go, which nobody else needs.
PRIVATE = ("output_dir", "tracking", "journal", "limits", "sweep", "suite", "hydra", "lang")
VARIABLES = "engine.env"
# What is shown instead of overrides.
LEFT_OUT, UNKNOWN = "(overrides with paths left out)", "(the command was not recorded)"


def commands(
    good: Recorded,
    reference: Path,
    switches: Sequence[Switch],
    causes: Sequence[Cause],
    inherited: Sequence[str] = (),
) -> list[Command]:
    """Return the commands that replay the good run's answers without and with each cause.

    None if the good run's own command is unknown. `inherited` are variables of the shell that the
    probes did not have.
    """
    if not causes or not good.words:
        return []
    replay: dict[str, Any] = {"verdict.rule": "replay", "verdict.reference": str(reference)}
    if any(word.lstrip("+").startswith("verdict.numerics.noise=") for word in good.words):
        replay["verdict.numerics.noise"] = None

    def written(changes: Mapping[str, Any]) -> str:
        place, _, words = call(good, changes).partition("\n")
        unset = "".join(f"-u {name} " for name in inherited)
        return f"{place}\n{f'env {unset}' if unset else ''}{words}"

    found = [Command("without", written({**replay, "output_dir": "outputs/why-without"}))]
    for number, cause in enumerate(causes, 1):
        changes = {key: value for n in cause.switches for key, value in switches[n].bad.items()}
        place = {"output_dir": f"outputs/why-with-{number}"}
        said = ", ".join(str(change) for n in cause.switches for change in switches[n].changes)
        found.append(Command(f"with {said}", written({**changes, **replay, **place})))
    return found


def stack(good: Recorded, plan: Plan, environment: Environment) -> Stack:
    """Return what the probes ran on."""
    versions = {name: found for name in MOVING if (found := environment.packages.get(name))}
    return Stack(
        model=public.text(plan.model),
        tasks=", ".join(public.text(each.task) for each in plan.evaluations),
        hardware=environment.hardware,
        versions=versions | environment.toolkit,
        asked=_asked(good),
    )


def _asked(good: Recorded) -> tuple[str, ...]:
    """The run's overrides without those that hold paths, and a note if there are such."""
    if not good.words:
        return (UNKNOWN,)
    asked, left_out = [], False
    for word in good.words:
        if word.startswith("--config"):
            left_out = True
        elif "=" in word and not word.startswith("-") and not _below(word, PRIVATE):
            shown = public.override(word)
            if shown == word or _below(word, [VARIABLES]):
                asked.append(shown)
            else:
                left_out = True
    return (*asked, LEFT_OUT) if left_out else tuple(asked)


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _below(word: str, keys: Iterable[str]) -> bool:
    """Whether an override sets one of the keys, or something below one."""
    return any(f"{_key(word)}.".startswith(f"{each}.") for each in keys)


def issue(why: Why) -> str:
    """Return Markdown for an issue: the setting, numbers and versions. Paths are left out."""
    if not why.causes or why.stack is None:
        return ""
    stack = why.stack
    shown = replace(why, switches=tuple(tuple(map(public.change, each)) for each in why.switches))
    lines = [
        f"{findings.headline(shown)}.",
        "",
        f"- Model: {stack.model}; tasks: {stack.tasks}; hardware: {stack.hardware}",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in stack.versions.items())}",
        f"- Settings of both runs: {_common(why, stack.asked)}",
        "- Measured by replay: the engine generates the same tokens with both settings, and its "
        "log-probabilities are compared.",
    ]
    for cause in why.causes:
        side = cause.probe.side
        if side is not None:
            lines.append(
                f"- {findings.named(shown, cause.switches)}: logits differ by "
                f"{findings.size(cause.probe)} nats (RMS) on the questions that differ most; "
                f"{cause.distinct} of {cause.questions} questions differ clearly from the noise"
            )
    lines += [
        f"- {trace.headline(each.trace)}"
        for each in why.origins
        if each.trace is not None and each.trace.found is not None and each.trace.found.first
    ]
    return "\n".join(lines)


def _common(why: Why, asked: Sequence[str]) -> str:
    """The settings that both runs have: those asked for, without the causes."""
    causes = [line.partition(": ")[0] for number in why.guilty for line in why.switches[number]]
    kept = [
        each
        for each in asked
        if "." not in _key(each)  # a choice of a group
        or not (_below(each, causes) or any(_below(key, [_key(each)]) for key in causes))
    ]
    return " ".join(kept) or ("no others were set" if asked else "the defaults")
