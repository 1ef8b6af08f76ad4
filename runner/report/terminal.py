"""Terminal and log output of plans and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Formatter
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from runner.language import N_, gettext, translated
from runner.outcome import Outcome
from runner.plan import Plan
from runner.present import style
from runner.present.formats import cut, interval, number, signed
from runner.present.lm_eval_command import lm_eval_command
from runner.report.gates import weak_gates
from runner.report.run_findings import departures, limited, matters, repeats, sampling
from runner.report.serving import serving
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
            gettext(" ({reason})", reason=verdict.reason),
        )
    )
    if verdict.metrics:
        out.print(_table(verdict, wide=out.width >= WIDE_COLUMNS), soft_wrap=False)
    for metric in verdict.metrics:
        if metric.rule not in ("", "isclose") and (said := beneath(metric)):
            name = f"{metric.task} {_metric_name(metric)}"
            out.print(gettext("{name}: {said}", name=name, said=said))
    if log_tail:
        out.print(log_tail)


def show_feeding(out: Console, outcome: Outcome) -> None:
    """Print request counts and how busy the engine was."""
    if outcome.feeding is not None:
        out.print(outcome.feeding.said)
    if outcome.speculation is not None:
        out.print(gettext("speculative decoding: {said}", said=outcome.speculation.said))
    for name, line in serving(outcome.served, command=False):
        out.print(gettext("{name}: {said}", name=name.lower(), said=line))


def show_matters(out: Console, outcome: Outcome) -> None:
    """Print caveats about the numbers."""
    for sentence in (
        *repeats(outcome),
        *limited(outcome),
        *matters(outcome),
        *sampling(outcome),
    ):
        _note(out, sentence)


def show_gates(out: Console, plan: Plan, outcome: Outcome, verdict: Verdict) -> None:
    """Print what the gates can tell, for those that can tell little."""
    for sentence in weak_gates(plan, outcome, verdict):
        _note(out, sentence)


def show_departures(out: Console, outcome: Outcome) -> None:
    """Print which requests differ from the configuration."""
    for sentence in departures(outcome):
        _note(out, sentence)


def _note(out: Console, sentence: str) -> None:
    out.print(gettext("note: {sentence}", sentence=sentence))


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
        said.append(gettext("{count} more in the report", count=len(judged) - len(said)))
    out.print(Text.assemble(status, ": ", gettext("; ").join(said)))


def show_reports(out: Console, report: Path, page: Path) -> None:
    """Print the paths of the reports; report.html is omitted if it was not written."""
    link = style.file_link(report)
    if page.is_file():
        also = style.file_link(page, page.name)
        out.print(_linked(N_("report: {report} (also: {page})"), report=link, page=also))
    else:
        out.print(_linked(N_("report: {report}"), report=link))


def show_tracked(out: Console, tracked: TrackedRun) -> None:
    """Print links to the run and its experiment in MLflow, and how to start the MLflow UI."""
    out.print(Text.assemble("MLflow: ", style.link(run_page(tracked))))
    every = all_runs_page(tracked.uri, tracked.experiment_id)
    out.print(_linked(N_("        all runs: {link}"), link=style.link(every)))
    if command := needed_command(tracked.uri):
        out.print(gettext("        (to view, run: {command})", command=command))


def _linked(message: str, **links: Text) -> Text:
    """Return a message, translated, with links in place of its placeholders."""
    said = Text()
    for before, name, _, _ in Formatter().parse(translated(message)):
        said.append(before)
        if name is not None:
            said.append_text(links[name])
    return said


def _judged(metric: MetricVerdict) -> str:
    """`canary acc 0.893 ± 0.012, baseline 0.893`."""
    value = number(metric.value, 3) or gettext("missing")
    if metric.stderr is not None:
        value += f" ± {number(metric.stderr, 3)}"
    name = f"{metric.task} {_metric_name(metric)}"
    if metric.baseline is None:
        return f"{name} {value}"
    baseline = number(metric.baseline, 3)
    return gettext("{name} {value}, baseline {baseline}", name=name, value=value, baseline=baseline)


def show_plan(out: Console, plan: Plan, memory: str, against: ReferenceUsed | None = None) -> None:
    """Print the plan, its memory estimate and the reference run."""
    table = Table.grid(padding=(0, 2))
    for name, text in _plan_lines(plan, memory):
        table.add_row(name, text)
    if against is not None:
        table.add_row(gettext("reference"), reference(against))
    out.print(table, soft_wrap=False)
    if plan.replay is None:  # lm-eval can't make an engine generate given answers
        out.print("\n" + gettext("Equivalent lm-eval command:"))
        out.print(lm_eval_command(plan))


def show_prospect(out: Console, requests: dict[str, int], unchecked: list[str]) -> None:
    """Print what the preflight checked and what it could not check."""
    if requests:
        built = gettext(", ").join(
            gettext("{count} for {task}", count=number, task=task)
            for task, number in requests.items()
        )
        out.print(
            gettext(
                "Everything before the engine start was checked; requests built: {built}.",
                built=built,
            )
        )
    for line in unchecked:
        out.print(gettext("Not checked: {line}", line=line))
    out.print(gettext("No engine was started."))


def show_preflights(out: Console, rows: list[tuple[str, str, str]]) -> None:
    """Print a table of sweep points: title, preflight result and first reason."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column(gettext("point"), overflow="fold")
    table.add_column(gettext("preflight"), no_wrap=True)
    table.add_column(gettext("first reason"), overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table, soft_wrap=False)


def counted(number: int, noun: str) -> str:
    """Return `1 point` or `2 points`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _plan_lines(plan: Plan, memory: str) -> Iterator[tuple[str, str]]:
    args = plan.engine_args
    yield gettext("model"), f"{plan.model}: {args['pretrained']} ({plan.backend})"
    eager = runtime_of(plan.runtime).eager(args)
    mode = gettext("eager") if eager else gettext("graph mode")
    length = args.get("max_model_len", args.get("max_length", gettext("model default")))
    yield (
        gettext("engine"),
        f"{plan.platform}, {plan.parallel_mode}, {mode}, {args['dtype']}, max_model_len {length}",
    )
    if plan.python is not None:
        yield gettext("interpreter"), plan.python
    yield gettext("memory"), memory or gettext("not estimated: no weights found")
    for line in plan.overruled:
        yield gettext("overridden"), line
    for each in plan.evaluations:
        known = [
            f"{metric},{name} {known.value:g}".removesuffix(",none")
            for metric, filters in each.baselines.items()
            for name, known in filters.items()
        ]
        parts = [each.task]
        if each.limit is not None:
            parts.append(gettext("limit {limit:g}", limit=each.limit))
        baseline = ", ".join(known) or gettext("none")
        parts.append(gettext("baseline {baseline}", baseline=baseline))
        yield gettext("task"), gettext(", ").join(parts)
    if plan.baseline_origin:
        yield gettext("baseline"), plan.baseline_origin
    for name, value in sorted(plan.environment.items()):
        yield gettext("variable"), f"{name}={value}"
    if plan.engine_fingerprint:
        yield (
            gettext("fingerprints"),
            gettext(
                "engine {engine}, evaluation {evaluation}",
                engine=plan.engine_fingerprint,
                evaluation=plan.evaluation_fingerprint,
            ),
        )


def _metric_name(metric: MetricVerdict) -> str:
    """`acc`, or `exact_match,strict-match`: as lm-eval writes it."""
    return f"{metric.metric},{metric.filter}".removesuffix(",none")


def _table(verdict: Verdict, wide: bool) -> Table:
    """Judged metrics, then others up to ROWS; the report has all."""
    shown = sorted(verdict.metrics, key=lambda metric: not metric.judged)[:ROWS]
    left_out = len(verdict.metrics) - len(shown)
    caption = gettext("{count} more in the report", count=left_out) if left_out else None
    table = Table(caption=caption, box=SIMPLE_HEAD, padding=(0, 1) if wide else (0, 1, 0, 0))
    # Names fold so that numbers fit.
    names = [(cut(metric.task), cut(_metric_name(metric))) for metric in shown]
    headings = gettext("task"), gettext("metric")
    for column, own in zip(headings, zip(*names, strict=True), strict=True):
        widest = max(cell_len(column), *map(len, own))
        table.add_column(column, overflow="fold", min_width=min(widest, NAME_COLUMNS))
    between = [gettext("95 % interval")] if wide else []
    for column in (gettext("value"), "±", *between):
        table.add_column(column, justify="right", no_wrap=True, min_width=cell_len(column))
    # Several words if the run is partial.
    table.add_column("n", justify="right", min_width=len("100"))
    for column in (gettext("baseline"), gettext("diff")):
        table.add_column(column, justify="right", no_wrap=True, min_width=cell_len(column))
    table.add_column(gettext("verdict"), no_wrap=True, min_width=len("INCONCLUSIVE"))
    for metric, name in zip(shown, names, strict=True):
        table.add_row(
            *name,
            number(metric.value, 3) or gettext("missing"),
            number(metric.stderr, 3),
            *([interval(metric.interval, 3)] if wide else []),
            metric.count,
            number(metric.baseline, 3),
            signed(metric.difference, 3),
            style.verdict(metric.status.value) if metric.judged else metric.status.value,
        )
    return table
