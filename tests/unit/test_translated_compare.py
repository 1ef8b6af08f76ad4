"""Everything that a comparison shows is in the language of the report."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.compare.__main__ import main
from runner.compare.browsed import FLAGS
from runner.compare.changes import MEANING, Kind
from runner.compare.headline import UNPAIRED
from runner.compare.sampled_findings import LENGTHS
from runner.evidence.pairing import Reason
from runner.language import gettext
from runner.lm.images import image_hash
from runner.lm.sample_table import SampleRow
from runner.outcome import State
from runner.plan import Evaluation
from runner.sweep.record import PointRecord, SweepRecord, write
from tests.compared import TASK, drawn, row, rows, write_run
from tests.pseudo import speak_pseudo, untranslated, untranslated_in_page

# Names of tasks, metrics, models, settings, files and commands; units. Texts of the data.
NAMES = {
    *("mini", "colour", "shape", "acc", "tiny", "cpu", "float", "nats", "stop", "length", "abort"),
    *("python", "runner", "compare", "html", "md", "json", "page", "output", "parallelism", "tp"),
    *("nan", "lang", "margin", "zh", "text", "System", "Question", "Answer", "says"),
}
HALF = [4] * 30
PICTURES = [Image.new("RGB", (40 + place, 30), "red") for place in range(3)]
SHOWN = [[image_hash(picture)] for picture in PICTURES]
TIED: dict[str, Any] = {"margins": [0.1, 9.0]}
SCORED: dict[str, Any] = {"token_ids": [], "logprobs": [], "margins": []}
LONG: dict[str, Any] = {"logprobs": [-0.5] * 20, "margins": [2.0] * 20}


@pytest.fixture(autouse=True)
def pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_pseudo(monkeypatch)


def limited(limit: float, task: str = TASK) -> dict[str, Any]:
    return {"evaluations": (Evaluation(task, None, True, True, limit, "auto", {}),)}


def long_answers(end: int) -> list[SampleRow]:
    tokens = [*range(end), *[9] * (20 - end)]
    return [row(n, "B" if end < 20 else "A", token_ids=tokens, **LONG) for n in range(20)]


def choices(*values: float, **other: Any) -> list[SampleRow]:
    best = float(values[0] == max(values))
    scored = {"choice_logprobs": list(values), "scores": {"acc": best}, **SCORED, **other}
    return [row(n, **scored) for n in range(50)]


def two_metrics(wrong: int) -> list[SampleRow]:
    return [row(n, scores={"acc": 1.0, "f1": float(n >= wrong)}) for n in range(100)]


def every_end() -> list[SampleRow]:
    return [
        replace(
            each,
            finish_reasons=[("length", "abort", "stop")[min(each.repeat, 2)]],
            degenerate=["repeating"] if each.repeat == 0 and each.doc_id < 4 else [],
            cut_thinking=int(each.repeat == 0),
            filtered="[invalid]" if each.repeat == 0 else each.filtered,
            truncated=each.repeat == 2,
            guessed=each.repeat == 3,
        )
        for each in drawn(HALF, 8, seed=77, tokens=60)
    ]


def other_prompts(n: int, answer: str = "A") -> list[SampleRow]:
    return [row(place, answer, prompt=f"System\n{place}") for place in range(n)]


def other_text() -> list[SampleRow]:
    first, *others = drawn(HALF, 8)
    return [replace(first, responses=["A, says"]), *others]


def means(score: float, seed: int) -> list[SampleRow]:
    return [replace(each, scores={"f1": score}) for each in drawn([0] * 20, 4, seed=seed)]


Run = tuple[list[SampleRow], dict[str, Any]]
CASES: dict[str, tuple[Run, Run]] = {
    "worse": (
        (rows(10), {"config": "parallelism: {tp: 1}\n"}),
        (rows(60), {"config": "parallelism: {tp: 2}\n", "engine_fingerprint": "0"}),
    ),
    "same": ((rows(10, 400), {}), (rows(10, 400), {})),
    "better": ((rows(10, 200), {}), (rows(0, 200), {})),
    "open": ((rows(2, 40), {}), (rows(4, 40), {})),
    "two metrics": ((two_metrics(10), {}), (two_metrics(40), {})),
    "only in A": ((rows(0), {}), (rows(0, 80), {"expected": 100})),
    "other prompts": ((rows(0, 20), {}), (other_prompts(20), {})),
    "ended": ((rows(0, 20), {"state": State.ERROR}), (rows(0, 20), {"state": State.ERROR})),
    "B ended": ((rows(0, 20), {}), (rows(0, 20), {"state": State.ERROR})),
    "empty": (([], {}), ([], {})),
    "subjects": (
        (rows(0), {}),
        ([row(n, "B" if n % 2 else "A", **TIED) for n in range(100)], {}),
    ),
    "ties": (
        ([row(n, **TIED) for n in range(60)], {}),
        ([row(n, "B" if n < 3 else "A", **TIED) for n in range(60)], {}),
    ),
    "prompt tokens": (
        (rows(0, 20), {}),
        ([row(n, prompt_tokens=[16] if n < 9 else [20]) for n in range(20)], {}),
    ),
    "not finite": (
        (rows(0, 20), {}),
        ([row(n, logprobs=[-0.25, float("nan")]) for n in range(20)], {}),
    ),
    "sums": ((choices(-1.0, -3.0), {}), (choices(-1.02, -3.01), {})),
    "choices": (
        (choices(-1.0, -3.0, choice_tokens=[4, 2]), {}),
        (choices(-2.5, -2.0, choice_tokens=[4, 2]), {}),
    ),
    "limits": ((rows(0, 60), limited(60)), (rows(10, 40), limited(40))),
    "fingerprints": ((rows(0, 20), {}), (rows(0, 20), {"engine_fingerprint": "0"})),
    "positions": ((long_answers(20), {}), (long_answers(15), {})),
    "pictures": (
        ([row(n, image_hashes=SHOWN[n]) for n in range(3)], {"images": PICTURES[:2]}),
        ([row(n, "B", image_hashes=SHOWN[n]) for n in range(3)], {"images": PICTURES[:1]}),
    ),
    "cards": (
        (rows(0, 300), {}),
        ([row(n, "B", prompt=f"Question {n}?\nAnswer:", filtered="Q") for n in range(300)], {}),
    ),
    "long prompts": (
        ([row(n, prompt="x" * 900 + str(n)) for n in range(20)], {}),
        ([row(n, "B", prompt="x" * 900 + str(n)) for n in range(20)], {}),
    ),
    "sampled": ((drawn([6] * 30, 8), {}), (drawn([3] * 30, 8, seed=77), {})),
    "sampled once": ((drawn([1] * 30, 1), {}), (drawn([1] * 30, 4, seed=77), {})),
    "equal draws": ((drawn(HALF, 8), {}), (drawn(HALF, 8), {})),
    "lengths": ((drawn(HALF, 8), {}), (every_end(), {})),
    "characters": (
        (drawn(HALF, 8), {}),
        (drawn(HALF, 8, seed=77, answer_tokens=[0], **SCORED), {}),
    ),
    "only in B": ((rows(0, 60), {}), (rows(0, 80), {})),
    "other images": (
        ([row(n, image_hashes=["i"]) for n in range(20)], {}),
        ([row(n, "B", image_hashes=["j"], doc_hash="j") for n in range(20)], {}),
    ),
    "other documents": (
        (rows(0, 20), {}),
        ([row(n, "B", doc_hash=f"{n}") for n in range(20)], {}),
    ),
    "flips of other prompts": (
        (rows(0, 20), {}),
        ([*rows(2, 10), *other_prompts(20, "B")[10:]], {}),
    ),
    "truncated": (
        (rows(0, 20), {}),
        ([row(n, "B", truncated=n < 9, guessed=True) for n in range(20)], {}),
    ),
    "no values": (([row(n, **SCORED) for n in range(20)], {}), (rows(2, 20), {})),
    "no numbers": (
        ([row(n) for n in range(20)], {}),
        ([row(n, logprobs=[float("nan")] * 2) for n in range(20)], {}),
    ),
    "unknown choices": (
        (choices(-1.0, -3.0, finish_reasons=["length"] * 3), {}),
        (choices(-3.0, -1.0), {}),
    ),
    "within the margin": ((rows(0, 400), {}), (rows(20, 400), {})),
    "no worse": ((rows(2, 400), {}), (rows(3, 400), {})),
    "settings": (
        (rows(0, 20), {"evaluation_fingerprint": "0"}),
        (rows(0, 20), {"config": "".join(f"k{n}: {n}\n" for n in range(20))}),
    ),
    "evaluation": ((rows(0, 20), {}), (rows(0, 20), {"evaluation_fingerprint": "0"})),
    "both fingerprints": (
        (rows(0, 20), {}),
        (rows(0, 20), {"engine_fingerprint": "0", "evaluation_fingerprint": "0"}),
    ),
    "other draws": ((drawn(HALF, 8), {}), (other_text(), {})),
    "other draws of another engine": (
        (drawn(HALF, 8), {}),
        (other_text(), {"engine_fingerprint": "0"}),
    ),
    "means": ((means(0.2, 1234), {}), (means(0.25, 77), {})),
    "other requests": ((drawn(HALF, 8), {}), (drawn(HALF, 8), {"system_instruction": "Short"})),
}

MARGINS = {"within the margin": "0.1", "no worse": "0.1"}


def samples_of(page: str) -> tuple[str, dict[str, Any]]:
    """The page without its list of samples, and the blocks of the list by name."""
    rest = re.sub(r'<section id="samples".*?</section>', "", page, flags=re.DOTALL)
    blocks = re.findall(r'id="block-(index|texts-\d+)">([^<]*)</script>', page)
    return rest, {
        name: json.loads(zlib.decompress(base64.b64decode(text), wbits=31)) for name, text in blocks
    }


@pytest.mark.parametrize("name", CASES)
def test_pages_and_the_terminal_are_translated(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for letter, (samples, given) in zip("ab", CASES[name], strict=True):
        write_run(tmp_path / letter, samples, **given)
    monkeypatch.chdir(tmp_path)
    margin = MARGINS.get(name, "0.02")
    assert main(["a", "b", "--output", "page", "--margin", margin, "--lang", "zh"]) in (0, 3, 4)
    assert untranslated(capsys.readouterr().out) <= NAMES
    output = tmp_path / "page"
    assert untranslated(unescape((output / "compare.md").read_text())) <= NAMES
    page, blocks = samples_of((output / "compare.html").read_text().replace(str(tmp_path), ""))
    assert '<html lang="zh">' in page
    assert untranslated_in_page(page) <= NAMES
    for each in (each for key, block in blocks.items() if key != "index" for each in block):
        facts = [
            *each["facts"],
            *(fact for side in each["sides"] if side for fact in side["facts"]),
        ]
        assert untranslated(" ".join(facts)) <= NAMES
    if not blocks:
        return
    listing = blocks["index"]["listing"]
    labels = [each["label"] for part in ("columns", "choices", "flags") for each in listing[part]]
    labels += [each["meaning"] for each in listing["flags"]]
    labels += [label for each in listing["choices"] for label in each["labels"]]
    assert untranslated(" ".join(labels)) <= NAMES
    # What addresses have is the same in all languages.
    assert [each["name"] for each in listing["flags"]] == [each for each, *_ in FLAGS]
    assert all("⟦" not in name for each in listing["choices"] for name in each["names"])


@pytest.mark.parametrize(("wrong", "status"), [(60, 3), (10, 0), (14, 4)])
def test_a_sweep_is_translated(
    wrong: int,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_run(tmp_path / "a", rows(10, 400))
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    points = [PointRecord(n, (f"parallelism.tp={n + 1}",), 0) for n in range(2)]
    write(sweep, SweepRecord("day/time", "python -m runner --multirun", tuple(points)))
    write_run(sweep / "0", rows(10, 400))
    write_run(sweep / "1", rows(wrong, 400))
    monkeypatch.chdir(tmp_path)
    names = NAMES | {"sweep"}
    assert main(["a", "sweep", "--output", "page", "--lang", "zh"]) == status
    assert untranslated(capsys.readouterr().out) <= names
    output = tmp_path / "page"
    assert untranslated((output / "compare.md").read_text()) <= names
    assert untranslated_in_page((output / "compare.html").read_text()) <= names


def test_programs_read_the_same_names_in_every_language(tmp_path: Path) -> None:
    write_run(tmp_path / "a", drawn(HALF, 8))
    write_run(tmp_path / "b", every_end())
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "page")])
    found = json.loads((tmp_path / "page" / "compare.json").read_text())
    assert [each["kind"] for each in found["kinds"]] == ["different draws"]
    assert [each["name"] for each in found["distributions"][0]["shares"]] == [
        "correct",
        "finish reason abort",
        "stopped at the token limit",
        "cut within the reasoning",
        "unparsable",
        "degenerate",
    ]
    assert found["distributions"][0]["lengths"]["unit"] == "tokens"


def test_every_cause_and_reason_has_a_sentence() -> None:
    assert set(MEANING) == set(Kind)
    assert set(UNPAIRED) == set(Reason)
    said = [gettext(each.value) for each in Kind] + [gettext(text) for text in MEANING.values()]
    assert untranslated(" ".join(said)) == set()
    assert set(LENGTHS) == {"tokens", "characters"}
