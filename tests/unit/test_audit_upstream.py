"""docs/gates.md is what its script prints, and the script reads a checkout right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gates_page import page
from benchmarks.upstream_gates import COLUMNS, DOCS, FACTS, FIGURE, PAGE, audits, drawn, read, rows
from tests.originals import TEXT, write

NIGHTLY = """\
_benchmarks: &benchmarks
  acc:
    case_type: accuracy
    dataset_path: owner/gsm8k-lite
    baseline: 93.75
    threshold: 6
    num_prompts: 400
  perf: {case_type: performance, dataset_path: owner/x, baseline: 1200, threshold: 0.97}
test_cases:
  - model: owner/Some-7B
    benchmarks: {<<: *benchmarks}
  - model: owner/Some-7B
    benchmarks:
      <<: *benchmarks
      second: {case_type: accuracy, dataset_path: owner/aime2025, baseline: 70, threshold: 7.5,
               temperature: 1.0, num_prompts: 16}
      third: {case_type: accuracy, dataset_path: owner/textvqa-lite, baseline: 70, threshold: 5}
"""


def test_the_page_is_what_the_script_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(audits())


def test_the_figure_is_that_of_the_script() -> None:
    """Its numbers; how it is drawn depends on matplotlib's version."""
    kept, now = (ElementTree.fromstring(each) for each in (FIGURE.read_bytes(), drawn()))
    assert kept.attrib["aria-label"] == now.attrib["aria-label"]
    assert [each.text for each in kept.iter() if each.tag.endswith("}text")] == [
        each.text for each in now.iter() if each.tag.endswith("}text")
    ]


def test_the_facts() -> None:
    kept = rows()
    assert Counter(row["rule"] for row in kept) == {"aisbench": 92, "isclose": 30}
    assert FACTS.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert {row["dataset"] for row in kept if not row["n"]} == {"textvqa-lite"}
    assert all(row["model"] and row["file"] and len(row["commit"]) == 10 for row in kept)
    assert DOCS in FACTS.parents


def test_most_frequent_gates_have_the_numbers_of_the_page() -> None:
    """AIME's 90 ± 10, of 18 gates."""
    found = [a for r, a in audits() if (r["dataset"], a.entry.limits) == ("aime2025", "90 ± 10")]
    assert len(found) == 18
    (own, more) = found[0].found
    assert [f"{part:.3f}" for part in (own.passes[0.05], own.passes[0.1], own.fails)] == [
        "0.847",
        "0.607",
        "0.026",
    ]
    assert more.samples == 8


def test_a_checkout_is_read_case_by_case(tmp_path: Path) -> None:
    write(tmp_path / "tests/e2e/nightly/single/some.yaml", NIGHTLY)
    write(tmp_path / "tests/e2e/models/configs/Some-7B.yaml", TEXT)
    speech = {"model_name": "owner/Speech", "model_type": "vllm-asr", "tasks": []}
    write(tmp_path / "tests/e2e/models/configs/Speech.yaml", speech)
    lite, aime, vqa, strict, flexible, ceval = read(tmp_path)
    assert lite == {
        "file": "tests/e2e/nightly/single/some.yaml",
        "model": "owner/Some-7B",
        "dataset": "gsm8k-lite",
        "metric": "accuracy",
        "n": "32",
        "rule": "aisbench",
        "baseline": "93.75",
        "tolerance": "6",
        "temperature": "0.6",
    }
    assert (aime["n"], aime["temperature"], aime["tolerance"]) == ("16", "1", "7.5")
    assert (vqa["dataset"], vqa["n"]) == ("textvqa-lite", "")
    assert (strict["metric"], strict["n"], strict["tolerance"]) == (
        "exact_match,strict-match",
        "200",
        "0.05",
    )
    assert flexible["baseline"] == "0.71"
    assert (ceval["metric"], ceval["n"]) == ("acc", "")


def test_the_readmes_line_is_that_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")

    def of_nightly(row: str) -> int:
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {row}"))
        return int(line.split("|")[2])

    audited = of_nightly("gates ") - of_nightly("of them, n unknown")
    weak = of_nightly("pass a 10-point loss in more than half")
    lines = {
        "README.md": "85 gates in vllm-ascend's nightly and weekly tests whose size is known,\n"
        "48 pass a stack",
        "README.zh.md": "题目数已知的 85 个门禁里，\n有 48 个在一半以上的运行中",
    }
    for name, line in lines.items():
        text = (DOCS.parent / name).read_text(encoding="utf-8")
        assert line.replace("85", str(audited)).replace("48", str(weak)) in text
