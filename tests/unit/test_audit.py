"""python -m runner.audit: which gates it finds in a file, what it prints, and its mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

from runner.audit.__main__ import HELP, main
from runner.audit.entry import LOSSES, Entry, audit
from runner.audit.model_files import gates
from runner.audit.sizes import GROUPS, QUESTIONS, questions
from runner.config import places
from runner.present.plots import COLOURS
from tests.originals import TEXT, write

NIGHTLY = Path(__file__).parents[1] / "nightly_files"

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text(encoding="utf-8")
MODEL: dict[str, Any] = {
    "defaults": [{"override /task@_global_.task": "baselines"}],
    "name": "mine",
    "pretrained": "owner/Mine",
    "backend": "vllm",
}


def own(directory: Path, baselines: dict[str, Any], **more: Any) -> str:
    file = write(directory / "mine.yaml", {**MODEL, "baselines": baselines, **more})
    return str(file)


def only(name: str, *overrides: str) -> Entry:
    (found,) = gates(name, overrides)
    return found


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 1
    printed = capsys.readouterr()
    assert not printed.out and "Traceback" not in printed.err
    return printed.err


# Which gates there are


def test_a_shipped_model_has_a_gate_for_each_baseline() -> None:
    strict, flexible = gates("qwen3_8b", [])
    assert strict.metric == "gsm8k exact_match,strict-match"
    assert (strict.rule, strict.baseline, strict.tolerance) == ("isclose", 0.765, 0.05)
    assert (strict.questions, strict.samples, strict.unaudited) == (1319, 1, "")
    assert flexible.baseline == 0.81


@pytest.mark.parametrize("name", [each for each in places.choices("model") if each not in ("any",)])
def test_every_shipped_gate_can_be_audited(name: str) -> None:
    assert {entry.unaudited for entry in gates(name, [])} == {""}


def test_the_limit_of_the_baseline_is_the_number_of_questions() -> None:
    assert {entry.questions for entry in gates("hunyuan_a13b", [])} == {1000}


def test_another_limit_can_not_pass_so_it_is_not_audited() -> None:
    entry = gates("qwen3_8b", ["task.limit=20"])[0]
    assert "task.limit" in entry.unaudited
    entry = gates("qwen3_8b", ["task.limit=20", "verdict.allow_partial=true"])[0]
    assert (entry.unaudited, entry.questions) == ("", 20)


def test_settings_of_the_run_apply() -> None:
    entry = gates("qwen3_8b", ["verdict=not_worse", "verdict.margin=0.02", "task.samples=4"])[0]
    assert (entry.rule, entry.tolerance, entry.samples) == ("not_worse", 0.02, 4)
    key = "+verdict.metrics.gsm8k.exact_match.strict-match.rtol=0.01"
    assert [each.tolerance for each in gates("qwen3_8b", [key])] == [0.01, 0.05]


def test_a_baseline_says_how_it_was_measured(tmp_path: Path) -> None:
    known = {"value": 0.9, "n": 30, "samples": 4, "tolerance": 0.1}
    entry = only(own(tmp_path, {"my_task": {"exact_match": {"none": known}}}))
    assert (entry.rule, entry.tolerance, entry.questions) == ("absolute", 0.1, 30)
    assert (entry.measured, entry.unaudited) == (120, "")
    assert entry.gate(1).passing == range(24, 31)
    # Measured with a limit, which is the run's as well.
    asked = {"my_task": {"limit": 30}}
    assert only(own(tmp_path, {"my_task": {"exact_match": {"none": known}}}, ask=asked)).questions


def test_a_standard_error_is_as_good_as_a_number_of_answers(tmp_path: Path) -> None:
    known = {"value": 0.8, "stderr": 0.02}
    entry = only(own(tmp_path, {"gsm8k": {"exact_match": {"strict-match": known}}}))
    assert entry.measured == pytest.approx(400)
    (found, _) = audit(entry, 8).found
    assert found.fails_measured == pytest.approx(entry.gate(1).fails_measured(0.8, 400))


def test_without_a_number_of_questions_nothing_is_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own(tmp_path, {"my_task": {"acc": {"none": 0.9}}})
    assert only(file).unaudited.startswith("n unknown")
    assert "my_task acc: Not audited: n unknown; set n in the baseline" in said(capsys, file)


@pytest.mark.parametrize(
    ("metric", "value", "reason"),
    [("word_perplexity", 12.0, "0 or 1"), ("f1", 0.5, "0 or 1"), ("acc", 55.0, "0 or 1")],
)
def test_other_metrics_are_not_audited(
    tmp_path: Path, metric: str, value: float, reason: str
) -> None:
    assert reason in only(own(tmp_path, {"gsm8k": {metric: {"none": value}}})).unaudited


def test_a_rule_with_a_reference_run_is_not_audited() -> None:
    entry = gates("qwen3_8b", ["verdict=paired", "verdict.reference=x"])[0]
    assert entry.unaudited == "paired compares with a reference run, not with a baseline"


def test_a_file_of_vllm_ascends_test(tmp_path: Path) -> None:
    file = write(tmp_path / "Some-7B-Instruct.yaml", TEXT)
    found = gates(str(file), [])
    assert [each.baseline for each in found] == [0.62, 0.71, 1.0]
    # A limit applies to each of ceval-valid's subtasks, so it doesn't say how many questions.
    assert [each.questions for each in found] == [200, 200, None]


def test_a_file_in_a_model_directory_finds_the_tasks_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "task" / "mine.yaml", {"names": ["gsm8k"]})
    model = {**MODEL, "defaults": [{"override /task@_global_.task": "mine"}]}
    model["baselines"] = {"gsm8k": {"exact_match": {"strict-match": 0.7}}}
    file = write(tmp_path / "model" / "my_model.yaml", model)
    assert only(str(file)).questions == 1319


def test_numbers_of_questions() -> None:
    assert (questions("gsm8k", None), questions("gsm8k", 2000), questions("gsm8k", 20)) == (
        1319,
        1319,
        20,
    )
    assert questions("aime25", 0.25) == 8  # as lm-eval rounds: up
    assert questions("unheard_of", None) is None
    assert set(GROUPS) <= set(QUESTIONS)


# What it prints


def test_the_sentence_has_both_numbers_of_samples(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(said(capsys, "qwen3_next_80b_a3b", "--samples", "4").split())
    assert (
        "qwen3_next_80b_a3b, ceval-valid_accountant acc: Passes a stack that lost 5 points in 55 % "
        "of runs and fails an unchanged one in 1.7 %; with samples=4, "
    ) in text


def test_the_same_number_of_samples_is_one_row() -> None:
    entry = gates("qwen3_8b", [])[0]
    assert [each.samples for each in audit(entry, 1).found] == [1]


def test_a_loss_larger_than_the_baseline_has_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own(tmp_path, {"gsm8k": {"exact_match": {"strict-match": 0.03}}})
    own_row = audit(only(file), 8).found[0]
    assert own_row.passes[0.05] is None and own_row.passes[0.02] is not None
    assert "Fails an unchanged stack in" in " ".join(said(capsys, file).split())


def test_the_table_fits_80_columns() -> None:
    code = (
        "import sys; from rich.console import Console; from runner.report import terminal\n"
        "terminal.console = lambda: terminal.Screen(width=80, highlight=False, markup=False,"
        " emoji=False, soft_wrap=True)\n"
        "from runner.audit.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, "qwen3_8b", "qwen3_next_80b_a3b"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    table, _, notes = printed.partition("k: ")
    assert max(map(len, table.splitlines())) <= 80
    row = next(line for line in table.splitlines() if "qwen3_8b" in line)
    assert row.split() == ["qwen3_8b", "1319", "1", "99.9", "92", "14", "<0.1", "0.1", "2.0"]
    assert "1 run: the same if the baseline is the result of one run." in notes


def test_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = json.loads(said(capsys, "qwen3_8b", "--json"))
    assert (first["baseline"], first["questions"], first["rule"]) == (0.765, 1319, "isclose")
    row, more = first["found"]
    assert (row["samples"], more["samples"]) == (1, 8)
    assert list(row["passes"]) == [f"{loss:g}" for loss in LOSSES]
    assert row["passes"]["0.05"] == pytest.approx(0.14, abs=0.005)
    assert second["baseline"] == 0.81


# The figure


def test_a_figure_as_svg_has_a_curve_and_both_modes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gate.svg"
    said(capsys, "qwen3_8b", "--figure", str(file))
    root = ElementTree.fromstring(file.read_bytes())
    texts = [each.text for each in root.iter() if each.text]
    assert "qwen3_8b, gsm8k exact_match,strict-match: 0.765, rtol 0.05, n = 1319" in texts
    assert "samples=8" in texts
    style = next(each.text or "" for each in root.iter() if each.tag.endswith("}style"))
    assert "prefers-color-scheme: dark" in style and COLOURS["paper"] in style
    assert "lost 5 points in 14 % of runs" in root.attrib["aria-label"]


def test_a_figure_as_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gate.png"
    said(capsys, "qwen3_next_80b_a3b", "--figure", str(file))
    with Image.open(file) as image:
        assert image.width > 900


# Mistakes


def test_a_model_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = wrong(capsys, "qwen3_8", "gemma_3_4")
    assert "error: qwen3_8: no such model" in text and "qwen3_8b" in text
    assert "gemma_3_4:" in text  # both at once


def test_files_that_can_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.yaml"
    assert f"{missing}: No such file" in wrong(capsys, str(missing))
    broken = write(tmp_path / "broken.yaml", "a: [")
    assert "not valid YAML" in wrong(capsys, str(broken))


def test_a_rejected_file_does_not_affect_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = {"model_name": "owner/Speech", "model_type": "vllm-asr", "tasks": []}
    files = [
        write(tmp_path / "Some-7B-Instruct.yaml", TEXT),
        write(tmp_path / "Speech.yaml", speech),
        write(tmp_path / "Other.yaml", {"other": 1}),
    ]
    assert main([*map(str, files), "--json"]) == 1
    printed = capsys.readouterr()
    assert [each["baseline"] for each in json.loads(printed.out)] == [0.62, 0.71, 1.0]
    skipped, rejected = printed.err.splitlines()
    assert skipped.startswith(f"warning: {files[1]}: not audited: model_type=vllm-asr")
    assert rejected.startswith(f"error: {files[2]}: not a model file")


def test_a_model_without_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    text = wrong(capsys, "any", "model.pretrained=owner/x", "task=gsm8k")
    assert "any: has no baselines for gsm8k" in text


def test_settings_alone_name_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a model or a model file as well" in wrong(capsys, "verdict=not_worse")


def test_a_setting_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert "verdict.marginn" in wrong(capsys, "qwen3_8b", "verdict.marginn=1")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["qwen3_8b", "--figure", "x.pdf"], "--figure x.pdf: must end in .svg or .png"),
        (
            ["qwen3_8b", "qwen3_8b_w8a8", "gemma_3_4b", "llama_3_2_3b", "--figure", "x.svg"],
            "8 gate",
        ),
        (
            ["qwen3_8b", "verdict=paired", "verdict.reference=x", "--figure", "x.svg"],
            "none of these gates can be audited",
        ),
    ],
)
def test_figures_that_can_not_be_drawn(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in wrong(capsys, *arguments)


def test_a_figure_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gate.svg"
    file.write_text("mine")
    assert "File exists" in wrong(capsys, "qwen3_8b", "--figure", str(file))
    assert file.read_text() == "mine"


@pytest.mark.parametrize("samples", ["0", "-1", "two"])
def test_samples_are_a_number_of_at_least_one(
    samples: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["qwen3_8b", "--samples", samples]) == 1
    assert "--samples" in capsys.readouterr().err


# What its help and page promise


def test_the_help_answers_at_once() -> None:
    code = (
        "import sys\nfrom runner.audit.__main__ import main\nmain(['--help'])\n"
        "print([name for name in ('numpy', 'scipy', 'hydra', 'matplotlib') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert printed.endswith("[]\n")
    for option in re.findall(r"`(--\w+)", PAGE):
        assert option in printed


def test_the_examples_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "model.yaml", yaml.safe_dump({**MODEL, "baselines": {"gsm8k": {"acc": {
        "none": 0.7}}}}))  # fmt: skip
    write(tmp_path / "original.yaml", TEXT)
    lines = re.findall(r"python -m runner\.audit ([^#\n`]*[^#\n` ])", HELP + PAGE)
    commands = [line.split() for line in lines if "MODEL_OR_FILE" not in line]
    assert len(commands) >= 6
    for words in commands:
        files = {
            "path/to/model.yaml": str(tmp_path / "model.yaml"),
            "tests/e2e/models/configs/*.yaml": str(tmp_path / "original.yaml"),
            "tests/e2e/nightly/single_node/models/configs/*.yaml": str(NIGHTLY / "aime.yaml"),
        }
        assert said(capsys, *(files.get(word, word) for word in words)), words


def test_nightly_files_are_audited_with_all_their_cases() -> None:
    aime = gates(str(NIGHTLY / "aime.yaml"), [])
    assert {(each.file, each.questions, each.rule) for each in aime} == {("aime", 30, "absolute")}
    found = gates(str(NIGHTLY / "textvqa.yaml"), [])
    assert [(each.file, each.baseline, each.tolerance) for each in found] == [
        ("textvqa heron", 0.88, 0.03),
        ("textvqa heron/images", 0.79, 0.05),
    ]
    assert [bool(each.unaudited) for each in found] == [False, True]
