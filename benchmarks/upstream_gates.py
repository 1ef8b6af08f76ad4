"""Audits vllm-ascend's accuracy gates: docs/gates.md, from the facts in docs/upstream_gates.csv.

    python -m benchmarks.upstream_gates                   prints the page
    python -m benchmarks.upstream_gates --write           writes the page and its figure
    python -m benchmarks.upstream_gates --read CHECKOUT   writes the facts anew from its files

The facts are numbers and names: a model, a data set, its baseline and its tolerance.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gates_page import page
from runner.audit.entry import Audit, Entry, audit
from runner.audit.figure import figure
from runner.audit.sizes import questions

DOCS = Path(__file__).parent.parent / "docs"
FACTS, PAGE, FIGURE = DOCS / "upstream_gates.csv", DOCS / "gates.md", DOCS / "images" / "gates.svg"
COLUMNS = (
    "file", "model", "dataset", "metric", "n", "rule", "baseline", "tolerance", "temperature",
    "commit",
)  # fmt: skip
# Nightly and weekly jobs, with AISBench; pull requests, with lm-eval.
JOBS = ("tests/e2e/nightly", "tests/e2e/weekly")
LM_EVAL = "tests/e2e/models/configs"
RTOL = 0.05
SAMPLES = 8
# AISBench's data sets by the name of their directory. gsm8k-lite: vllm-ascend 9676868d56. Of gpqa,
# AISBench asks gpqa_diamond; of SuperGLUE, the validation split of BoolQ. textvqa-lite is missing:
# its size is published nowhere, and an answer can score a part of a point.
DATASETS = {
    "aime2024": 30,
    "aime2025": 30,
    "gpqa": 198,
    "gsm8k": 1319,
    "gsm8k-lite": 32,
    "gsm8k_lite": 32,
    "SuperGLUE": 3270,
}
# tools/aisbench.py sets it where a file doesn't.
TEMPERATURE = 0.6
# In the figure: the most frequent gate of each data set.
SHOWN = (
    ("aime2025", 0.9, "AIME 2025"),
    ("gsm8k-lite", 0.95, "GSM8K lite"),
    ("gpqa", 0.85, "GPQA diamond"),
    ("gsm8k", 0.9629, "GSM8K"),
)

Row = dict[str, str]


def rows() -> list[Row]:
    """Return the facts, a row for each gate."""
    with FACTS.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def audits() -> list[tuple[Row, Audit]]:
    """Return each gate with its audit."""
    return [(row, audit(_entry(row), SAMPLES)) for row in rows()]


def drawn() -> bytes:
    """Return the figure as SVG."""
    found = []
    for dataset, baseline, name in SHOWN:
        row = next(
            row
            for row in rows()
            if row["dataset"] == dataset and float(row["baseline"]) == round(100 * baseline, 6)
        )
        entry = _entry(row)
        found.append(audit(replace(entry, file=name, metric=""), SAMPLES))
    return figure(found, ".svg")


def _entry(row: Row) -> Entry:
    points = row["rule"] == "aisbench"
    unit = 100 if points else 1
    return Entry(
        file=row["file"],
        metric=row["metric"],
        rule=row["rule"],
        baseline=float(row["baseline"]) / unit,
        tolerance=float(row["tolerance"]) / unit,
        questions=int(row["n"]) if row["n"] else None,
        unaudited="" if row["n"] else "n unknown",
    )


# Reading a checkout


def read(checkout: Path) -> list[Row]:
    """Return the facts of every accuracy gate in a checkout of vllm-ascend."""
    found = []
    for directory in JOBS:
        for file in sorted((checkout / directory).rglob("*.yaml")):
            found += [{"file": str(file.relative_to(checkout)), **row} for row in _of_job(file)]
    for file in sorted((checkout / LM_EVAL).glob("*.yaml")):
        found += [{"file": str(file.relative_to(checkout)), **row} for row in _of_lm_eval(file)]
    return found


def _of_job(file: Path) -> Iterator[Row]:
    """A job names a case where it is defined and again where it is used: each counts once."""
    cases: dict[str, tuple[str, dict[str, Any]]] = {}
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        for model, case in _cases(document, ""):
            key = repr(sorted(case.items(), key=str))
            if not cases.get(key, ("", {}))[0]:
                cases[key] = (model, case)
    for model, case in cases.values():
        dataset = case["dataset_path"].split("/")[-1]
        n, limit = DATASETS.get(dataset), case.get("num_prompts")
        yield {
            "model": model,
            "dataset": dataset,
            "metric": "accuracy",
            "n": "" if n is None else str(min(n, limit or n)),
            "rule": "aisbench",
            "baseline": f"{case['baseline']:g}",
            "tolerance": f"{case['threshold']:g}",
            "temperature": f"{case.get('temperature', TEMPERATURE):g}",
        }


def _cases(content: Any, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(content, dict):
        if isinstance(content.get("model"), str):
            model = content["model"]
        if content.get("case_type") == "accuracy":
            yield model, content
    below = content.values() if isinstance(content, dict) else content
    if isinstance(content, dict | list):
        for each in below:
            yield from _cases(each, model)


def _of_lm_eval(file: Path) -> Iterator[Row]:
    """Speech and reward models have tests of their own, which don't compare with isclose."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if content.get("model_type", "vllm") not in ("vllm", "vllm-vlm"):
        return
    for task in content["tasks"]:
        n = questions(task["name"], content.get("limit"))
        for metric in task["metrics"]:
            yield {
                "model": content["model_name"],
                "dataset": task["name"],
                "metric": metric["name"].removesuffix(",none"),
                "n": "" if n is None else str(n),
                "rule": "isclose",
                "baseline": f"{metric['value']:g}",
                "tolerance": f"{RTOL:g}",
                "temperature": "",
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--read", type=Path, metavar="CHECKOUT")
    parser.add_argument("--commit", help="of the checkout, if it is not a git repository")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.read is not None:
        commit = (
            given.commit
            or subprocess.check_output(
                ["git", "-C", given.read, "rev-parse", "--short=10", "HEAD"], text=True
            ).strip()
        )
        with FACTS.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "commit": commit} for row in read(given.read))
    elif given.write:
        PAGE.write_text(page(audits()), encoding="utf-8")
        FIGURE.write_bytes(drawn())
    else:
        print(page(audits()), end="")


if __name__ == "__main__":
    main()
