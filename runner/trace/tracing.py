"""Finds the first module whose output differs between two configurations beyond noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.errors import UserError
from runner.evidence.sketches import Sketches, read_sketches
from runner.plan import Plan, TracePlan
from runner.rundir import RunDirectory
from runner.trace.departures import ENOUGH, Found, found
from runner.trace.differences import Difference, differences, other_prompts
from runner.trace.experts import Evidence, blamed, routings
from runner.trace.graphs import Graph, graph, modules
from runner.trace.result import Traced, TraceResult
from runner.trace.runs import (
    Replayed,
    Runs,
    Side,
    in_graph_mode,
    other_batches,
    replayed,
    settled,
)

QUESTIONS = 12
DTYPE = "engine.dtype"
# Directories of the traced runs.
FIRST, NOISE, SECOND = "a", "a-noise", "b"


def trace(
    reference: Path,
    first: Side,
    second: Side,
    output: Path,
    number: int,
    out: Console,
    questions: Mapping[str, Sequence[int]] | None = None,
    noise_dtype: bool = True,
    graphs: bool = False,
) -> TraceResult:
    """Replay a run's answers with two configurations, and compare the outputs of all modules.

    `reference` is the directory of the run whose answers are replayed: about `number` of them, or
    those to `questions`, documents by task (of a group: by subtask, at least one of each). Three
    runs are made beneath `output`, unless they are there: A, A again with other batches for the
    noise, and B. The last needs an engine of its own; the first two share one if they can. With
    `noise_dtype`, A runs again with B's data type, whose effect is noise then. With `graphs`, if
    nothing departs, those that run in graph mode are run once more in it.

    Raises:
        UserError: if a configuration can't be traced, or its run fails.
    """
    what = replayed(reference, number, questions)
    other = _noise_side(first, second, noise_dtype)
    sides = ((FIRST, first), (NOISE, other), (SECOND, second))
    settings = {name: settled(side, what, output / name) for name, side in sides}
    titles = {
        FIRST: f"1/3 A: replaying {_asked(what)}",
        NOISE: f"2/3 A again, {_differently(first, other)}: the noise",
        SECOND: "3/3 B",
    }
    with Runs(out) as runs:
        plans = {
            name: runs.trace(side, settings[name].changes, titles[name]) for name, side in sides
        }
    evidence = [Evidence.read(RunDirectory(output / name).sketches) for name, _ in sides]
    a, noise, b = (each.sketches for each in evidence)
    if not len(a.questions) or not len(b.questions):
        raise UserError(
            f"{reference}: has no generated answers that both engines replay; trace needs a task "
            "that generates its answers"
        )
    prompts = tuple(other_prompts(a, b))
    same = plans[FIRST].runtime == plans[SECOND].runtime
    apart = differences(a, noise)
    judged = (
        None if prompts else found(modules(differences(a, b)), modules(apart), same, noise_dtype)
    )
    in_graphs: list[Graph] = []
    if graphs and judged is not None and judged.modules and judged.first is None:
        for letter, side, eager in (("A", first, a), ("B", second, b)):
            if in_graph_mode(side):
                place = output / f"{letter.lower()}-graph"
                # What another data type does is no noise of this one.
                measured = side.value(DTYPE) == other.value(DTYPE)
                known = apart if measured else differences(eager, eager)
                in_graphs.append(_graph(letter, side, what, place, eager, known, measured, out))
    ours, again, theirs = evidence
    return TraceResult(
        reference=str(reference),
        first=_traced(first, output / FIRST, plans[FIRST]),
        second=_traced(second, output / SECOND, plans[SECOND]),
        noise=_differently(first, other),
        questions=tuple(a.questions.tolist()),
        covered=plans[FIRST].trace or TracePlan(),
        found=judged,
        prompts=prompts,
        alone=_alone(a, b),
        notes=(
            *dict.fromkeys((*settings[FIRST].notes, *settings[SECOND].notes)),
            *_suspected((first, second), judged, in_graphs),
            *_dtypes(first, second, noise_dtype),
            *_few(len(a.questions)),
        ),
        routings=() if prompts else routings(ours, theirs, again),
        experts=blamed(ours, theirs, again, judged) if judged is not None else None,
        graphs=tuple(in_graphs),
    )


def _graph(
    letter: str,
    side: Side,
    what: Replayed,
    place: Path,
    eager: Sketches,
    noise: Sequence[Difference],
    measured: bool,
    out: Console,
) -> Graph:
    """Run a configuration in graph mode; a failure is part of the result, which stands without."""
    changes = settled(side, what, place, graph=True).changes
    try:
        with Runs(out) as runs:
            runs.trace(side, changes, f"{letter} in graph mode")
        traced = read_sketches(RunDirectory(place).sketches)
        return graph(letter, eager, traced, noise, measured)
    except UserError as error:
        return Graph(letter, None, failed="; ".join(error.problems))


def _noise_side(first: Side, second: Side, noise_dtype: bool) -> Side:
    """A with other batches, and with B's data type if that is noise."""
    changes: dict[str, Any] = {**first.changes, **other_batches(first)}
    if noise_dtype and first.value(DTYPE) != (dtype := second.value(DTYPE)):
        changes[DTYPE] = dtype
    return Side(first.name, first.recorded, changes)


def _differently(first: Side, again: Side) -> str:
    """How a configuration differs from A's, in words."""
    changed = [
        f"{key}={value}" for key, value in again.changes.items() if first.value(key) != value
    ]
    return f"with {' and '.join(changed)}"


def _asked(what: Replayed) -> str:
    if what.questions:
        chosen = sum(map(len, what.questions.values()))
        return f"the answers to {chosen} questions of {', '.join(what.tasks)}"
    each = "an answer" if what.limit == 1 else f"{what.limit} answers"
    return f"{each} of each task or subtask of {', '.join(what.tasks)}"


def _traced(side: Side, directory: Path, plan: Plan) -> Traced:
    dtype = str(plan.engine_args.get("dtype", ""))
    return Traced(side.name, str(directory), plan.runtime, plan.parallel_mode, dtype)


def _alone(a: Sketches, b: Sketches) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ours, theirs = a.names.tolist(), b.names.tolist()
    return (
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
    )


def _suspected(
    sides: Sequence[Side], judged: Found | None, in_graphs: Sequence[Graph]
) -> tuple[str, ...]:
    """What is left to suspect if nothing departs in eager mode, and that is all that was traced."""
    if judged is None or not judged.modules or judged.first is not None or in_graphs:
        return ()
    names = dict.fromkeys(side.name for side in sides if in_graph_mode(side))
    return tuple(f"Graph mode of {name} was not traced: it is a suspect." for name in names)


def _dtypes(first: Side, second: Side, noise_dtype: bool) -> tuple[str, ...]:
    """What other data types mean for the result."""
    ours, theirs = first.value(DTYPE), second.value(DTYPE)
    if ours == theirs:
        return ()
    differ = f"The data types differ (A: {ours}, B: {theirs})"
    if noise_dtype:
        return (
            f"{differ}. The noise was measured with B's, so the effect of the data type counts as "
            "noise, and only other differences can depart.",
        )
    return (
        f"{differ}. The noise was measured with A's, so a module may depart because of B's "
        "rounding alone.",
    )


def _few(questions: int) -> tuple[str, ...]:
    if questions >= ENOUGH:
        return ()
    return (f"Only {questions} answers were replayed, and the test needs {ENOUGH}.",)
