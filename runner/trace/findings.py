"""What a trace has found, in sentences and in rows of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runner.present.formats import times
from runner.trace.blocks import about_experts
from runner.trace.departures import FACTOR, LEVEL, Ending, Found, Module
from runner.trace.graphs import Graph
from runner.trace.result import TraceResult

# Phases in words.
WHERE = {
    "vision": "in the vision tower",
    "prefill": "in prefill (prompt tokens)",
    "decode": "in decode (answer tokens)",
}
# A layer, and what it is in: `layers.2.`, `visual.blocks.1.`.
LAYER = re.compile(r"(.*?\.\d+)\.")
# A ratio to the noise that is shown as 1.0.
SLIGHT = 1.05
# Modules that are named in a sentence.
NAMED = 4


@dataclass(frozen=True)
class Part:
    """A layer, or a module outside all layers, in one phase: its module with the largest ratio."""

    name: str
    phase: str
    worst: Module
    origin: bool


def headline(result: TraceResult) -> str:
    """Return the result in one sentence."""
    found = result.found
    if result.prompts:
        return f"The prompts of {len(result.prompts)} of {len(result.questions)} questions differ."
    if found is None or not found.modules:
        return "Nothing could be compared."
    if found.first is None:
        return _graph_headline(result.graphs) or "Nothing departs beyond noise."
    first = f"the first module that departs is {_placed(found.first)}"
    if found.ending is Ending.ORIGIN:
        return f"{first[0].upper()}{first[1:]}."
    jump = f"; the largest jump is at {_placed(found.jump)}" if found.jump is not None else ""
    return f"Differences grow gradually: {first}{jump}."


def conclusion(result: TraceResult) -> str:
    """Return the headline; if nothing departs, with what that holds for."""
    found = result.found
    graphs = _graph_headline(result.graphs)
    if found is None or not found.modules or found.first is not None or graphs:
        return headline(result)
    return f"Nothing departs in the traced tokens of {len(result.questions)} questions."


def findings(result: TraceResult) -> list[str]:
    """Return the sentences below the headline."""
    return [
        *_evidence(result),
        *about_experts(result),
        *(sentence for each in result.graphs for sentence in _about_graph(each)),
        *_alone(result),
        *result.notes,
    ]


def _graph_headline(graphs: Sequence[Graph]) -> str:
    """The first output that departs in graph mode alone; empty if none does."""
    for each in graphs:
        if each.found is not None and each.found.first is not None:
            return (
                f"Nothing departs in eager mode, but in graph mode {each.letter} departs from "
                f"itself at {_placed(each.found.first)}."
            )
    return ""


def _about_graph(graph: Graph) -> list[str]:
    found = graph.found
    if found is None:
        return [
            f"{graph.letter} could not be traced in graph mode, which remains a suspect: "
            f"{graph.failed}"
        ]
    if not found.modules:
        return [
            f"In graph mode, hooks see no output of {graph.letter}: nothing was compared, and it "
            "remains a suspect."
        ]
    seen = " ".join(_visible(graph, found))
    if not graph.measured:
        seen += " The noise run has another data type, so the noise is what rounding does."
    first = found.first
    if first is None:
        worst = max(each.ratio for each in found.modules)
        letter, none = graph.letter, _none(found)
        if worst > FACTOR:
            none = f"{none[0].lower()}{none[1:]}"
            return [f"{letter} in graph mode against {letter} in eager mode: {none}", seen]
        return [
            f"{letter} in graph mode agrees with {letter} in eager mode: the largest ratio is "
            f"{times(worst)}.",
            seen,
        ]
    return [
        f"{graph.letter} in graph mode against {graph.letter} in eager mode: {first.module} has a "
        f"{_amounts(first)}, {times(first.ratio)} × the noise (p {_p(first.p)}, {first.questions} "
        f"questions, {first.rows} rows). Suspect the compiled or captured kernels.",
        seen,
    ]


def _visible(graph: Graph, found: Found) -> list[str]:
    """What is outside and inside of the graph; phases with the same outputs are named together."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for phase, hidden in graph.unseen.items():
        outputs = tuple(each.module for each in found.modules if each.phase == phase)
        alike.setdefault((outputs, hidden), []).append(phase)
    said = []
    for (outputs, hidden), phases in alike.items():
        where = " and ".join(WHERE[each] for each in phases)
        outside = f"{where[0].upper()}{where[1:]}, {len(outputs)} outputs are outside of "
        outside += f"{graph.letter}'s graph"
        outside += f", the last of them {' and '.join(outputs[-2:])}." if outputs else "."
        said.append(outside)
        if hidden:
            said.append(
                f"Inside of it, {len(hidden)} are invisible: {_listed(hidden)}; they were compared "
                "in eager mode only."
            )
    return said


def _evidence(result: TraceResult) -> list[str]:
    found = result.found
    if result.prompts:
        return [
            f"Other prompt tokens: {_listed(result.prompts)}. Outputs for other tokens can't be "
            "compared: look for differences in the chat template, the tokenizer and the image "
            "processor."
        ]
    if found is None or not found.modules:
        return ["The traces have no module with enough questions in common."]
    first = found.first
    if first is None:
        if max(each.ratio for each in found.modules) < SLIGHT:
            return [f"All {len(found.modules)} compared outputs are within the noise."]
        return [_none(found)]
    said = [
        f"{first.module}: {_amounts(first)}, {times(first.ratio)} × the noise (p {_p(first.p)}, "
        f"{first.questions} questions, {first.rows} rows)."
    ]
    if first.broken[1]:
        said.append(f"B has {first.broken[1]} NaN or infinite values there, A {first.broken[0]}.")
    if found.ending is Ending.ORIGIN:
        agrees = found.before <= FACTOR
        said.append(
            f"The modules before it have at most {times(found.before)} × the noise"
            + (", so its input agrees. " if agrees else ", but none departs significantly. ")
            + "Suspect its weights, their quantization, or its kernel. What departs behind it may "
            "only pass the difference on."
        )
        return said
    said.append(
        f"It is the first significantly beyond {FACTOR:g} × the noise, but modules before it have "
        f"up to {times(found.before)} ×, so the difference may begin earlier. Suspect something "
        "that all modules share, such as the data type, the precision of matrix products, or the "
        "layout."
    )
    if found.jump is not None:
        said.append(
            f"The largest jump is at {_placed(found.jump)}: {_height(found.jump)}, and at most "
            f"{times(found.before_jump)} × before it. It may have a fault of its own, or amplify "
            "what reaches it."
        )
    return said


def _none(found: Found) -> str:
    """That no output departs significantly, and the one that is closest to it."""
    worst = max(found.modules, key=lambda each: each.ratio)
    return (
        f"None of {len(found.modules)} compared outputs is significantly above {FACTOR:g} × the "
        f"noise. The largest ratio is {times(worst.ratio)}, of {worst.module} {WHERE[worst.phase]}."
    )


def _placed(each: Module) -> str:
    return f"{each.module}, {WHERE[each.phase]}"


def _height(each: Module) -> str:
    if each.broken[1] > each.broken[0]:
        return f"{each.broken[1]} NaN or infinite values (A: {each.broken[0]})"
    return f"{times(each.ratio)} × the noise"


def _alone(result: TraceResult) -> list[str]:
    modules = result.found.modules if result.found is not None else ()
    others = list(dict.fromkeys(each.module for each in modules if each.alone))
    differ = (
        f"{_listed(others)}: differs, but what follows agrees, so {result.first.runtime} and "
        f"{result.second.runtime} compute other things by this name. Not counted."
    )
    return [
        *([differ] if others else []),
        *(
            f"Modules in {letter} alone, which are not compared: {_listed(names)}."
            for letter, names in zip("AB", result.alone, strict=True)
            if names
        ),
    ]


def coverage(result: TraceResult) -> str:
    """Return which rows and questions were compared."""
    covered = result.covered
    return (
        f"{len(result.questions)} questions; of each, the last {covered.prompt} tokens of the "
        f"prompt, the first {covered.answer} tokens of the answer, and up to {covered.image} "
        "patches of each image"
    )


def method() -> str:
    """Return how modules are judged."""
    return (
        f"A module departs if the geometric mean, over questions, of difference / noise is "
        f"significantly above {FACTOR:g} (one-sided t-test of the logarithm, Holm-adjusted for all "
        f"modules and phases, {LEVEL:.0%} in total)"
    ).replace("%", " %")


def parts(found: Found) -> list[Part]:
    """Return the modules by layer and phase, in the order of execution."""
    groups: dict[tuple[str, str], list[Module]] = {}
    layers = layers_of(found.modules)
    for each in found.modules:
        name = layers.get(each.module) or ".".join(each.module.split(".")[:2])
        groups.setdefault((name, each.phase), []).append(each)
    return [
        Part(
            name,
            phase,
            found.first
            if found.first is not None and found.first in own
            else max(own, key=lambda each: each.ratio),
            found.first in own,
        )
        for (name, phase), own in groups.items()
    ]


def layers_of(modules: Sequence[Module]) -> dict[str, str]:
    """Return the layer of each module that is in one, or is one, by the module's name."""
    inside = {each.module: match[1] for each in modules if (match := LAYER.match(each.module))}
    return inside | {name: name for name in inside.values()}


def _amounts(each: Module) -> str:
    return f"relative difference {each.difference:.2g}, noise {each.noise:.2g}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
