"""What stands beneath a verdict: in the report, in the terminal, and in MLflow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.report.markdown import render
from runner.report.terminal import show_verdict
from runner.status import Status
from runner.verdict import MetricVerdict, ReferenceUsed, Verdict
from runner.verdict.explanation import beneath, reference

USED = ReferenceUsed("baseline@m/t", "/runs/a", "f" * 32, "m", "cuda", "TP2, bfloat16", "e1", "v1",
                     "PASSED")  # fmt: skip
JUDGED = MetricVerdict(
    task="t", metric="acc", filter="none", status=Status.INCONCLUSIVE, value=0.5, stderr=0.01,
    interval=(0.48, 0.52), n=900, baseline=0.51, difference=-0.01, reason="why", rule="paired",
    test="exact McNemar", drop=0.01, p=0.03, p_adjusted=0.06, margin=0.02, upper=0.024,
    detectable=0.019, samples_to_pass=1200, samples_to_fail=950, clusters=30,
    evidence="30 samples worse, 21 better; clustered by subject (30 clusters)",
)  # fmt: skip
SAID = (
    "exact McNemar, one-sided p = 0.03 (0.06 after Holm correction); "
    "drop +0.0100 (95 % upper bound +0.0240, margin 0.02); "
    "detectable drop 0.0190 (80 % power); "
    "about 1,200 samples pass a run without a drop and about 950 samples fail a drop of twice the "
    "margin (80 % power); "
    "30 samples worse, 21 better; clustered by subject (30 clusters)"
)


def of(metric: MetricVerdict) -> Verdict:
    return Verdict(metric.status, "why", "paired", (metric,), 4, USED)


def test_everything_that_a_test_found_is_in_one_sentence() -> None:
    assert beneath(JUDGED) == SAID


def test_a_failure_asks_for_no_more_samples() -> None:
    assert "80 % power); about" not in beneath(replace(JUDGED, status=Status.FAILED))


def test_a_bound_that_is_none_is_said() -> None:
    assert "95 % upper bound none" in beneath(replace(JUDGED, upper=float("inf")))


def test_the_originals_rule_says_what_it_would_have_seen() -> None:
    plain = replace(JUDGED, rule="isclose", test="", drop=None, p=None, p_adjusted=None,
                    margin=None, upper=None, evidence="")  # fmt: skip
    assert beneath(plain) == (
        "detectable drop 0.0190 (80 % power); "
        "with 1,200 samples, a run without a drop passes with 95 % probability"
    )
    assert beneath(replace(plain, detectable=None, samples_to_pass=None)) == ""


def test_the_report_names_the_reference_and_the_evidence(
    plan: Plan, environment: Environment, outcome: Outcome
) -> None:
    text = render(plan, environment, outcome, of(JUDGED))
    assert SAID in text
    assert f"Reference: {reference(USED)}" in text
    assert f"m on cuda (TP2, bfloat16), verdict PASSED, MLflow run {'f' * 32}; " in text
    assert "fingerprints: engine e1, evaluation v1; /runs/a" in text
    assert reference(replace(USED, name="/runs/a")).count("/runs/a") == 1
    assert "Reference" not in render(
        plan, environment, outcome, replace(of(JUDGED), reference=None)
    )


@pytest.mark.parametrize("hostile", ["a|b\n# c", "<script>x</script>", "`x`"])
def test_a_hostile_reference_breaks_no_page(
    plan: Plan, environment: Environment, outcome: Outcome, hostile: str
) -> None:
    markdown = pytest.importorskip("markdown_it")
    used = replace(USED, name=hostile, model=hostile, directory=hostile)
    metric = replace(JUDGED, evidence=hostile)
    text = render(plan, environment, outcome, replace(of(metric), reference=used))
    html = markdown.MarkdownIt("commonmark").enable("table").render(text)
    assert (html.count("<h1>"), html.count("<table>"), html.count("<pre>")) == (1, 1, 1)
    assert "<script>" not in html


def test_the_terminal_says_it_for_the_rules_that_test(capsys: pytest.CaptureFixture[str]) -> None:
    out = Console(width=400, markup=False, highlight=False)
    show_verdict(out, "m", of(JUDGED), "")
    assert f"t acc: {SAID}" in capsys.readouterr().out
    show_verdict(out, "m", of(replace(JUDGED, rule="isclose")), "")
    assert "80 % power" not in capsys.readouterr().out
