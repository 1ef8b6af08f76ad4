"""Sorts runs into series: nights of one metric of one model, task and set of settings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase

from runner.errors import UserError
from runner.history.result import Kind, Night
from runner.history.runs import (
    DEGENERATE,
    SAMPLE_RATE,
    SHIFTS,
    START,
    THROUGHPUT,
    Metric,
    Run,
)
from runner.history.versions import Version
from runner.tracking.names import in_name
from runner.tracking.records import SETTINGS

# Short names for `--metric`.
ALIASES = {
    "throughput": Kind.THROUGHPUT,
    "start": Kind.START,
    "degenerate": Kind.DEGENERATE,
    "shift": Kind.SHIFT,
}
# Of the run, not of one of its tasks.
OF_RUN = {THROUGHPUT: Kind.THROUGHPUT, SAMPLE_RATE: Kind.THROUGHPUT, START: Kind.START}
LOWER_IS_BETTER = (Kind.START, Kind.DEGENERATE, Kind.SHIFT)
# What a run records when it completes.
LATE = ("prompts", "reference run")
# Names that a message lists.
LISTED = 20


@dataclass(frozen=True)
class Collected:
    """The nights of a series before they are judged."""

    model: str
    task: str
    metric: str
    kind: Kind
    higher_is_better: bool
    settings: dict[str, str]
    nights: tuple[Night, ...]


def collect(
    runs: Sequence[Run], wanted: Sequence[str] = (), names: Sequence[str] = ()
) -> list[Collected]:
    """Return the series of the runs.

    `wanted` are patterns of `model/task`, `names` are patterns of metrics: of the metric's own
    name, of `task/metric`, or a short name. Without `names`, the judged metrics of a task are
    shown, or all of its own if none is judged, and the trends.

    Raises:
        UserError: if a pattern matches nothing.
    """
    groups: defaultdict[tuple[str, str, frozenset[tuple[str, str]]], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda each: (each.started, each.name)):
        groups[run.model, run.tasks, frozenset(run.settings.items())].append(run)
    distinct = _distinct(list(groups))
    found = [
        each
        for (model, tasks, settings), own in groups.items()
        for each in _series(model, tasks, distinct[model, tasks, settings], own, bool(names))
    ]
    found = _matching(found, wanted, lambda each: [f"{each.model}/{each.task}"], "model/task")
    return _matching(found, names, _names, "--metric")


def _distinct(
    groups: Sequence[tuple[str, str, frozenset[tuple[str, str]]]],
) -> dict[tuple[str, str, frozenset[tuple[str, str]]], dict[str, str]]:
    """For each group, its settings that differ between groups of the same model and tasks."""
    alike: defaultdict[tuple[str, str], list[frozenset[tuple[str, str]]]] = defaultdict(list)
    for model, tasks, settings in groups:
        alike[model, tasks].append(settings)
    common = {key: frozenset.intersection(*each) for key, each in alike.items()}
    found = {group: dict(sorted(group[2] - common[group[0], group[1]])) for group in groups}
    plain = {group: _without_digest(each) for group, each in found.items()}
    labels = {group: (*group[:2], *each.items()) for group, each in plain.items()}
    count = Counter(labels.values())
    # A digest says nothing to people.
    return {
        group: plain[group] if count[label] == 1 else found[group]
        for group, label in labels.items()
    }


def _without_digest(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name != SETTINGS}


def _series(
    model: str, tasks: str, settings: dict[str, str], runs: Sequence[Run], every: bool
) -> Iterator[Collected]:
    whens = _whens(runs)
    known: dict[str, Metric] = {}
    for run in runs:
        known |= run.metrics
    own = {n for n, metric in known.items() if metric.main and _is_accuracy(n)}
    judged = {name for name in own if known[name].judged}
    # A task without a judged metric shows all of its own.
    judged |= {name for name in own if _task(name) not in set(map(_task, judged))}
    parts = {in_name(task): task for task in tasks.split("+")}
    for name, metric in known.items():
        task, _, rest = name.partition("/")
        kind = _kind(name, rest)
        shown = name in judged or kind is not Kind.ACCURACY
        if name == SAMPLE_RATE and _any(runs, THROUGHPUT):
            shown = False  # of a task that generates, tokens are the better measure
        if name == THROUGHPUT and not _any(runs, THROUGHPUT):
            continue
        if not (shown or (every and _of_tasks(name, own))):
            continue
        lower = kind in LOWER_IS_BETTER or not metric.higher_is_better
        yield Collected(
            model=model,
            task=tasks if name in OF_RUN else parts.get(task, task),
            metric=name if name in OF_RUN else rest,
            kind=kind,
            higher_is_better=not lower,
            settings=settings,
            nights=_nights(runs, whens, name),
        )


def _task(name: str) -> str:
    return name.partition("/")[0]


def _is_accuracy(name: str) -> bool:
    return _kind(name, name.partition("/")[2]) is Kind.ACCURACY


def _kind(name: str, metric: str) -> Kind:
    if metric.partition("/")[0] in SHIFTS:
        return Kind.SHIFT
    if metric == DEGENERATE:
        return Kind.DEGENERATE
    return OF_RUN.get(name, Kind.ACCURACY)


def _any(runs: Iterable[Run], name: str) -> bool:
    return any(run.metrics[name].value > 0 for run in runs if name in run.metrics)


def _of_tasks(name: str, own: Set[str]) -> bool:
    """Whether a value is a metric's, and not its error, or something beside it."""
    if name.startswith("perf/"):
        return True
    beside = ("_stderr", "_difference", "/passed", "/baseline")
    return not any(name.endswith(each) for each in beside) or name in own


def _whens(runs: Sequence[Run]) -> list[str]:
    """The dates of the runs (UTC), with times if two runs are of one day."""
    times = [datetime.fromtimestamp(run.started, timezone.utc) for run in runs]
    dates = [f"{time:%Y-%m-%d}" for time in times]
    return dates if len(set(dates)) == len(dates) else [f"{time:%Y-%m-%d %H:%M}" for time in times]


def _nights(runs: Sequence[Run], whens: Sequence[str], name: str) -> tuple[Night, ...]:
    task = name.partition("/")[0]
    # A run that completed without such a value is not one of its nights.
    own = [
        each
        for each in zip(runs, whens, strict=True)
        if name in each[0].metrics or name in each[0].unmeasured or not each[0].final
    ]
    changed = _changes([run for run, _ in own])
    return tuple(
        Night(
            number=number,
            when=when,
            run=run.name,
            local=run.directory is not None,
            verdict=run.verdict,
            value=metric.value if metric is not None else None,
            counted=metric is not None and run.final and task not in run.partial,
            n=metric.n if metric is not None else None,
            interval=metric.interval if metric is not None else None,
            tolerated=metric.tolerated if metric is not None else None,
            changed=versions,
        )
        for number, ((run, when), versions) in enumerate(zip(own, changed, strict=True), start=1)
        for metric in (run.metrics.get(name),)
    )


def _changes(runs: Sequence[Run]) -> Iterator[tuple[Version, ...]]:
    """What changed with each run."""
    before: dict[str, str] | None = None
    completed = False
    for run in runs:
        now = dict(run.versions)
        if not run.final and before is not None:
            # A run that did not get far did not record everything.
            now |= {name: each for name, each in before.items() if name.startswith(LATE)}
        changed = _changed(before, now) if before is not None else ()
        yield tuple(each for each in changed if completed or not each.name.startswith(LATE))
        before, completed = now, completed or run.final


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Version]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Version(name, before.get(name, ""), after.get(name, ""))


def _names(series: Collected) -> list[str]:
    full = series.metric if "/" in series.metric else f"{series.task}/{series.metric}"
    aliases = [alias for alias, kind in ALIASES.items() if kind is series.kind]
    return [series.metric, full, f"{series.task}/{series.metric}", *aliases]


def _matching(
    found: list[Collected],
    patterns: Sequence[str],
    names: Callable[[Collected], list[str]],
    what: str,
) -> list[Collected]:
    kept = []
    missing = list(patterns)
    for each in found:
        hits = [p for p in patterns if any(fnmatchcase(name, p) for name in names(each))]
        missing = [p for p in missing if p not in hits]
        if hits or not patterns:
            kept.append(each)
    if missing:
        known = sorted({names(each)[0] for each in found})
        more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
        raise UserError(
            f"{what} {missing[0]}: no such series; there are {', '.join(known[:LISTED])}{more}"
        )
    return kept
