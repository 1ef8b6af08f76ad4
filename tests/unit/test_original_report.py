"""The report in the original's layout: its rows are their own, and none writes over another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner.adopt import Adopted
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.original_report import write_report
from runner.outcome import MetricResult, Outcome, State
from runner.plan import Evaluation, Plan
from runner.rundir import RunDirectory, write_json
from runner.verdict import judge
from tests.baselines import exact

ADOPTED = Adopted("owner/Some-7B", "", ())
FILE = Path("configs/Some-7B.yaml")
FIRST, SECOND = ("exact_match", "strict-match"), ("exact_match", "flexible-extract")


@pytest.fixture
def judged_plan(plan: Plan) -> Plan:
    baselines = {"exact_match": {FIRST[1]: 0.9, SECOND[1]: 0.5}}
    return replace(
        plan,
        evaluations=(Evaluation("gsm8k", 5, True, True, None, "auto", exact(baselines)),),
    )


def finished(
    directory: Path, plan: Plan, environment: Environment, outcome: Outcome
) -> RunDirectory:
    run = RunDirectory(directory)
    run.claim()
    write_json(run.plan, plan)
    write_json(run.environment, environment)
    write_json(run.outcome, outcome)
    write_json(run.verdict, judge(outcome, plan.evaluations, VerdictConfig()))
    return run


def measured(outcome: Outcome, *metrics: MetricResult) -> Outcome:
    return replace(outcome, tasks=(replace(outcome.tasks[0], metrics=metrics),))


def rows(report: Path) -> list[str]:
    return [line for line in report.read_text().splitlines() if line.startswith("| gsm8k")]


def test_a_failed_row_leaves_the_next_one_alone(
    tmp_path: Path,
    judged_plan: Plan,
    environment: Environment,
    metric: MetricResult,
    outcome: Outcome,
) -> None:
    low = replace(metric, metric=FIRST[0], filter=FIRST[1], value=0.5, stderr=0.0138)
    good = replace(metric, metric=SECOND[0], filter=SECOND[1], value=0.512345, stderr=None)
    run = finished(tmp_path / "run", judged_plan, environment, measured(outcome, good, low))
    report = write_report(tmp_path / "reports", FILE, ADOPTED, run)
    assert report == tmp_path / "reports" / "Some-7B.md"
    assert rows(report) == [
        "| gsm8k | exact_match,strict-match | ❌0.5 | ± 0.0138 |",
        "| gsm8k | exact_match,flexible-extract | ✅0.5123 |  |",
    ]


def test_sections_and_table_are_the_originals(
    tmp_path: Path, judged_plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    run = finished(tmp_path / "run", judged_plan, environment, outcome)
    adopted = replace(ADOPTED, dropped=("serve.x|y: not applied",))
    lines = write_report(tmp_path, FILE, adopted, run).read_text().splitlines()
    assert lines[0] == "# owner/Some-7B"
    heads = [line.partition("**:")[0] for line in lines if line.startswith("- **")]
    assert heads[:5] == [
        "- **vLLM Version",
        "- **Software Environment",
        "- **Hardware Environment",
        "- **Parallel mode",
        "- **Execution mode",
    ]
    assert lines.index("**Command**:") < lines.index("```bash")
    table = next(place for place, line in enumerate(lines) if line.startswith("| Task"))
    assert [cell.strip() for cell in lines[table].strip("|").split("|")] == [
        "Task",
        "Metric",
        "Value",
        "Stderr",
    ]
    assert lines[table + 2].startswith("| gsm8k |")
    assert "- **Not applied**: serve.x\\|y: not applied" in lines


def test_what_was_not_measured_is_a_row_all_the_same(
    tmp_path: Path, judged_plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    broken = replace(outcome, state=State.ERROR, reason="it broke", tasks=(), engine={})
    run = finished(tmp_path / "run", judged_plan, environment, broken)
    report = write_report(tmp_path, FILE, ADOPTED, run)
    assert [row.split("|")[3].strip() for row in rows(report)] == ["missing", "missing"]
    assert "**Verdict**: ERROR: it broke" in report.read_text()


def test_another_layout_or_file_gets_a_report_of_its_own(
    tmp_path: Path, judged_plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    reports = tmp_path / "reports"

    def report(name: str, tp: int, file: Path = FILE) -> str:
        args = {**judged_plan.engine_args, "tensor_parallel_size": tp}
        plan = replace(judged_plan, engine_args=args)
        run = finished(tmp_path / name, plan, environment, outcome)
        return write_report(reports, file, ADOPTED, run).name

    assert report("first", 2) == "Some-7B.md"
    assert report("again", 2) == "Some-7B.md"
    assert report("other", 4) == "Some-7B-TP4.md"
    other = Path("configs/Some-7B-long.yaml")
    assert report("long", 2, other) == "Some-7B-TP2.md"
    assert report("third", 2, Path("configs/third.yaml")).startswith("third-TP2-")
    assert report("last", 2) == "Some-7B.md"
    assert str(tmp_path / "last") in (reports / "Some-7B.md").read_text()


def test_another_case_of_a_file_gets_a_report_of_its_own(
    tmp_path: Path, judged_plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    run = finished(tmp_path / "run", judged_plan, environment, outcome)
    reports = [
        write_report(tmp_path, FILE, replace(ADOPTED, case=case), run)
        for case in ("text", "images")
    ]
    assert [report.name for report in reports] == ["Some-7B.md", "Some-7B-TP2.md"]
    assert f"- **Configuration**: {FILE.name}, case images" in reports[1].read_text()


def test_a_run_that_broke_is_replaced_by_its_repetition(
    tmp_path: Path, judged_plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    """Until the engine has started, its graph mode is not known."""
    broken = replace(outcome, state=State.ERROR, reason="it broke", tasks=(), engine={})
    for name, found in (("broken", broken), ("whole", outcome)):
        run = finished(tmp_path / name, judged_plan, environment, found)
        report = write_report(tmp_path / "reports", FILE, ADOPTED, run)
        assert report.name == "Some-7B.md"


def test_a_report_of_the_original_is_replaced_as_it_would_replace_it(
    tmp_path: Path, judged_plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    (tmp_path / "Some-7B.md").write_text("# Some-7B\n\n- **Parallel mode**: TP4\n")
    run = finished(tmp_path / "run", judged_plan, environment, outcome)
    assert write_report(tmp_path, FILE, ADOPTED, run).name == "Some-7B.md"
