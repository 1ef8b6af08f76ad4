"""Terminal and log output of plans and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from runner.outcome import Outcome
from runner.plan import Plan
from runner.present import style
from runner.present.formats import cut, interval, number, signed
from runner.present.lm_eval_command import lm_eval_command
from runner.report.gates import weak_gates
from runner.report.run_findings import departures, limited, matters, repeats, sampling
from runner.report.serving import STARTED_AS, serving
from runner.runtimes import runtime_of
from runner.status import Status
from runner.tracking.tracked import TrackedRun, needed_command, run_page
from runner.tracking.views import all_runs_page
from runner.verdict import MetricVerdict, ReferenceUsed, Verdict
from runner.verdict.explanation import beneath, reference
from runner.visible import visible

ROWS = 12
POINT_METRICS = 3
NAME_COLUMNS = 10
# A table of nine columns is readable from here on; a log file has no width of its own.
WIDE_COLUMNS, LOG_COLUMNS = 104, 120


class Screen(Console):
    """A console that makes control characters in text visible; only rich may emit them."""

    def render_str(self, text: str, **options: Any) -> Text:  # before a table is measured
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def console() -> Console:
    """Return a console on standard output that neither formats nor wraps text."""
    out = Screen(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not out.is_terminal:
        out.width = LOG_COLUMNS
    return out


def show_verdict(out: Console, model: str, verdict: Verdict, log_tail: str) -> None:
    """Print the verdict, the table of metrics and, if given, the end of the engine log."""
    out.print(
        Text.assemble(
            f"{model}: ",
            style.verdict(verdict.status.value),
            f" ({verdict.reason})",
        )
    )
    if verdict.metrics:
        out.print(_table(verdict, wide=out.width >= WIDE_COLUMNS), soft_wrap=False)
    for metric in verdict.metrics:
        if metric.rule not in ("", "isclose") and (said := beneath(metric)):
            out.print(f"{metric.task} {_metric_name(metric)}: {said}")
    if log_tail:
        out.print(log_tail)


def show_feeding(out: Console, outcome: Outcome) -> None:
    """Print request counts and how busy the engine was."""
    if outcome.feeding is not None:
        out.print(outcome.feeding.said)
    if outcome.speculation is not None:
        out.print(f"speculative decoding: {outcome.speculation.said}")
    for name, line in serving(outcome.served):
        if name != STARTED_AS:
            out.print(f"{name.lower()}: {line}")


def show_matters(out: Console, outcome: Outcome) -> None:
    """Print caveats about the numbers."""
    for sentence in (
        *repeats(outcome),
        *limited(outcome),
        *matters(outcome),
        *sampling(outcome),
    ):
        out.print(f"note: {sentence}")


def show_gates(out: Console, plan: Plan, outcome: Outcome, verdict: Verdict) -> None:
    """Print what the gates can tell, for those that can tell little."""
    for sentence in weak_gates(plan, outcome, verdict):
        out.print(f"note: {sentence}")


def show_departures(out: Console, outcome: Outcome) -> None:
    """Print which requests differ from the configuration."""
    for sentence in departures(outcome):
        out.print(f"note: {sentence}")


def show_point(out: Console, verdict: Verdict, log_tail: str) -> None:
    """Print one line for a sweep point: its judged metrics, failed ones first."""
    if log_tail:
        out.print(log_tail)
    judged = [metric for metric in verdict.metrics if metric.judged]
    judged.sort(key=lambda metric: metric.status is Status.PASSED)
    status = style.verdict(verdict.status.value)
    if verdict.status not in (Status.PASSED, Status.FAILED) or not judged:
        out.print(Text.assemble(status, f": {verdict.reason}"))
        return
    said = [_judged(metric) for metric in judged[:POINT_METRICS]]
    if len(judged) > len(said):
        said.append(f"{len(judged) - len(said)} more in the report")
    out.print(Text.assemble(status, f": {'; '.join(said)}"))


def show_reports(out: Console, report: Path, page: Path) -> None:
    """Print the paths of the reports; report.html is omitted if it was not written."""
    said = Text.assemble("report: ", style.file_link(report))
    if page.is_file():
        said = Text.assemble(said, " (also: ", style.file_link(page, page.name), ")")
    out.print(said)


def show_tracked(out: Console, tracked: TrackedRun) -> None:
    """Print links to the run and its experiment in MLflow, and how to start the MLflow UI."""
    out.print(Text.assemble("MLflow: ", style.link(run_page(tracked))))
    every = all_runs_page(tracked.uri, tracked.experiment_id)
    out.print(Text.assemble("        all runs: ", style.link(every)))
    if command := needed_command(tracked.uri):
        out.print(f"        (to view, run: {command})")


def _judged(metric: MetricVerdict) -> str:
    """`canary acc 0.893 ± 0.012, baseline 0.893`."""
    value = number(metric.value, 3) or "missing"
    if metric.stderr is not None:
        value += f" ± {number(metric.stderr, 3)}"
    name = f"{metric.task} {_metric_name(metric)}"
    if metric.baseline is None:
        return f"{name} {value}"
    return f"{name} {value}, baseline {number(metric.baseline, 3)}"


def show_plan(out: Console, plan: Plan, memory: str, against: ReferenceUsed | None = None) -> None:
    """Print the plan, its memory estimate and the reference run."""
    table = Table.grid(padding=(0, 2))
    for name, text in _plan_lines(plan, memory):
        table.add_row(name, text)
    if against is not None:
        table.add_row("reference", reference(against))
    out.print(table, soft_wrap=False)
    if plan.replay is None:  # lm-eval can't make an engine generate given answers
        out.print("\nEquivalent lm-eval command:")
        out.print(lm_eval_command(plan))


def show_prospect(out: Console, requests: dict[str, int], unchecked: list[str]) -> None:
    """Print what the preflight checked and what it could not check."""
    if requests:
        built = ", ".join(f"{number} for {task}" for task, number in requests.items())
        out.print(f"Everything before the engine start was checked; requests built: {built}.")
    for line in unchecked:
        out.print(f"Not checked: {line}")
    out.print("No engine was started.")


def show_preflights(out: Console, rows: list[tuple[str, str, str]]) -> None:
    """Print a table of sweep points: title, preflight result and first reason."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("point", overflow="fold")
    table.add_column("preflight", no_wrap=True)
    table.add_column("first reason", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table, soft_wrap=False)


def counted(number: int, noun: str) -> str:
    """Return `1 point` or `2 points`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _plan_lines(plan: Plan, memory: str) -> Iterator[tuple[str, str]]:
    args = plan.engine_args
    yield "model", f"{plan.model}: {args['pretrained']} ({plan.backend})"
    eager = runtime_of(plan.runtime).eager(args)
    mode = "eager" if eager else "graph mode"
    length = args.get("max_model_len", args.get("max_length", "model default"))
    yield (
        "engine",
        f"{plan.platform}, {plan.parallel_mode}, {mode}, {args['dtype']}, max_model_len {length}",
    )
    if plan.python is not None:
        yield "interpreter", plan.python
    yield "memory", memory or "not estimated: no weights found"
    for line in plan.overruled:
        yield "overridden", line
    for each in plan.evaluations:
        known = [
            f"{metric},{name} {known.value:g}".removesuffix(",none")
            for metric, filters in each.baselines.items()
            for name, known in filters.items()
        ]
        limit = "" if each.limit is None else f", limit {each.limit:g}"
        yield "task", f"{each.task}{limit}, baseline {', '.join(known) or 'none'}"
    if plan.baseline_origin:
        yield "baseline", plan.baseline_origin
    for name, value in sorted(plan.environment.items()):
        yield "variable", f"{name}={value}"
    if plan.engine_fingerprint:
        yield (
            "fingerprints",
            f"engine {plan.engine_fingerprint}, evaluation {plan.evaluation_fingerprint}",
        )


def _metric_name(metric: MetricVerdict) -> str:
    """`acc`, or `exact_match,strict-match`: as lm-eval writes it."""
    return f"{metric.metric},{metric.filter}".removesuffix(",none")


def _table(verdict: Verdict, wide: bool) -> Table:
    """Judged metrics, then others up to ROWS; the report has all."""
    shown = sorted(verdict.metrics, key=lambda metric: not metric.judged)[:ROWS]
    left_out = len(verdict.metrics) - len(shown)
    caption = f"{left_out} more in the report" if left_out else None
    table = Table(caption=caption, box=SIMPLE_HEAD, padding=(0, 1) if wide else (0, 1, 0, 0))
    # Names fold so that numbers fit.
    names = [(cut(metric.task), cut(_metric_name(metric))) for metric in shown]
    for column, own in zip(("task", "metric"), zip(*names, strict=True), strict=True):
        widest = max(map(len, (column, *own)))
        table.add_column(column, overflow="fold", min_width=min(widest, NAME_COLUMNS))
    numbers = ["value", "±", *(["95 % interval"] if wide else []), "n", "baseline", "diff"]
    for column in numbers:
        few = column == "n"  # several words if the run is partial
        least = len("100") if few else len(column)
        table.add_column(column, justify="right", no_wrap=not few, min_width=least)
    table.add_column("verdict", no_wrap=True, min_width=len("INCONCLUSIVE"))
    for metric, name in zip(shown, names, strict=True):
        table.add_row(
            *name,
            number(metric.value, 3) or "missing",
            number(metric.stderr, 3),
            *([interval(metric.interval, 3)] if wide else []),
            metric.count,
            number(metric.baseline, 3),
            signed(metric.difference, 3),
            style.verdict(metric.status.value) if metric.judged else metric.status.value,
        )
    return table
