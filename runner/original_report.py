"""A finished run → the report that vllm-ascend's accuracy test would have written, by its name.

Its file name, sections and table are kept for what reads them; what its report gets wrong is not
(docs/original.md).
"""

from __future__ import annotations

from pathlib import Path

from runner.adopt import Adopted
from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.present.formats import cell, fenced, plus_minus
from runner.present.lm_eval_command import lm_eval_command
from runner.present.template import template
from runner.report.markdown import MARKS
from runner.report.stack import execution_mode, version
from runner.rundir import RunDirectory, read_json, write_atomic
from runner.tracking.tracked import TrackedRun
from runner.verdict import ROUNDED_DIGITS, MetricVerdict, Verdict

# Lines that say which configuration a report is of.
OF_WHICH = ("- **Configuration**", "- **Parallel mode**", "- **Execution mode**")


def write_report(directory: Path, file: Path, adopted: Adopted, run: RunDirectory) -> Path:
    """Write the report into the directory; where to is said.

    It replaces the report of the same configuration, and one that no runner wrote. Next to that of
    another configuration it takes a longer name.
    """
    plan: Plan = read_json(run.plan, Plan)
    text = _render(file, adopted, run, plan)
    directory.mkdir(parents=True, exist_ok=True)
    model, layout = Path(adopted.model_name).name, plan.parallel_mode.replace(" + ", "-")
    names = (model, f"{model}-{layout}", f"{file.stem}-{layout}-{plan.engine_fingerprint[:8]}")
    places = [directory / f"{name}.md" for name in names]
    place = next((each for each in places[:-1] if _replaceable(each, text)), places[-1])
    write_atomic(place, text)
    return place


def judged(plan: Plan, verdict: Verdict) -> list[MetricVerdict]:
    """What the file has values for, in the file's order."""
    wanted = [
        (each.task, metric, name)
        for each in plan.evaluations
        for metric, filters in each.baselines.items()
        for name in filters
    ]
    found = {
        (metric.task, metric.metric, metric.filter): metric
        for metric in verdict.metrics
        if metric.baseline is not None
    }
    return [found[each] for each in wanted if each in found]


def _render(file: Path, adopted: Adopted, run: RunDirectory, plan: Plan) -> str:
    environment: Environment = read_json(run.environment, Environment)
    outcome: Outcome = read_json(run.outcome, Outcome)
    verdict: Verdict = read_json(run.verdict, Verdict)
    rows = [
        {
            "task": metric.task,
            "metric": f"{metric.metric},{metric.filter}",
            "value": f"{MARKS[metric.status]}{_rounded(metric.value)}",
            "stderr": metric.stderr,
        }
        for metric in judged(plan, verdict)
    ]
    page = template("original.md.j2", cell=cell, fenced=fenced, plus_minus=plus_minus)
    return page.render(
        model_name=adopted.model_name,
        plan=plan,
        outcome=outcome,
        environment=environment,
        execution_mode=execution_mode(plan, outcome),
        version=lambda *names: version(environment, *names),
        lm_eval_command=lm_eval_command(plan, outcome.greedy_by_default),
        rows=rows,
        verdict=verdict,
        configuration=file.name + (f", case {adopted.case}" if adopted.case else ""),
        directory=run.path,
        mlflow=read_json(run.tracked, TrackedRun).run_id if run.tracked.exists() else None,
        dropped=adopted.dropped,
    )


def _rounded(value: float | None) -> str:
    """As the original prints it: 0.5, not 0.5000."""
    return "missing" if value is None else str(round(value, ROUNDED_DIGITS))


def _replaceable(place: Path, text: str) -> bool:
    if not place.exists():
        return True
    there = _of_which(place.read_text(encoding="utf-8", errors="replace"))
    return len(there) < len(OF_WHICH) or there == _of_which(text)


def _of_which(text: str) -> list[str]:
    """Without the graph mode that vLLM resolves, which a run that broke does not know."""
    lines = [line for line in text.splitlines() if line.startswith(OF_WHICH)]
    return [line.partition(" (")[0] for line in lines]
