"""The rows and blocks behind the list of all samples in report.html and compare.html."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import re
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.compare.__main__ import main as compare
from runner.config.verdict import VerdictConfig
from runner.evidence.outlines import read_outlines, read_texts, with_texts
from runner.evidence.samples import read_samples
from runner.lm.images import Album, image_hash
from runner.lm.sample_table import SampleRow, sample_table, write_samples
from runner.outcome import MetricResult, Outcome
from runner.plan import Plan
from runner.present import browser as present
from runner.present import packed
from runner.present.browser import Browser, Detail, Listing, Side, browser
from runner.present.formats import clip
from runner.present.pictures import Picture, album
from runner.report.browsed import browsed
from runner.rundir import RunDirectory, read_json, write_json
from runner.verdict import judge
from tests.compared import row, write_run


def unpacked(block: bytes) -> Any:
    return json.loads(zlib.decompress(block, wbits=31))


def details_of(found: Browser) -> list[dict[str, Any]]:
    return [each for block in found.texts.packed for each in unpacked(block)]


def of_page(page: str) -> dict[str, Any]:
    """The blocks of a page by name, unpacked."""
    blocks = re.findall(r'id="block-([\w-]+)">([^<]*)</script>', page)
    return {name: unpacked(base64.b64decode(text)) for name, text in blocks}


def of_run(
    directory: Path, samples: list[SampleRow], higher_is_better: bool = True, **kind: bool
) -> Browser:
    return of_directory(write_run(directory, samples, higher_is_better=higher_is_better), **kind)


def of_directory(directory: Path, **kind: bool) -> Browser:
    run = RunDirectory(directory)
    plan, outcome = read_json(run.plan, Plan), read_json(run.outcome, Outcome)
    verdict = judge(outcome, plan.evaluations, VerdictConfig())
    found = browsed(run, outcome, verdict, read_outlines(run.samples), **kind)
    assert found is not None
    return found


def outcome_of(run: Path, *metrics: MetricResult) -> None:
    """Replace the metrics of a run's task."""
    file = RunDirectory(run).outcome
    outcome = read_json(file, Outcome)
    write_json(file, replace(outcome, tasks=(replace(outcome.tasks[0], metrics=metrics),)))


def metric(task: str, name: str, higher_is_better: bool = True) -> MetricResult:
    return MetricResult(task, name, "none", 0.5, 0.1, 4, higher_is_better, False)


def listed(found: Browser) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = unpacked(found.index)["listing"]["values"]
    return values


def flags_of(listing: dict[str, Any]) -> list[set[str]]:
    names = [each["name"] for each in listing["flags"]]
    return [
        {name for bit, name in enumerate(names) if own & 1 << bit}
        for own in listing["values"]["flags"]
    ]


def of_texts(texts: Iterable[str]) -> Browser:
    details = [Detail(text, "", sides=(Side((text,)),)) for text in texts]
    values: dict[str, list[Any]] = {"doc": list(range(len(details)))}
    return browser(Listing((), values, (), (), ()), lambda: enumerate(details), {})


# Outlines


def test_an_outline_has_everything_but_texts_and_tokens(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    own = row(
        3,
        answer_tokens=[2],
        seconds=[0.5],
        degenerate=["empty"],
        filtered=f" {'x' * 900}",
        logprobs=[-1.0, -2.0],
    )
    bare = row(4, token_ids=[], logprobs=[], margins=[], answer_tokens=[])
    write_samples(file, [sample_table([own, bare])])
    outline, empty = read_outlines(file)
    whole, _ = read_samples(file)
    assert list(outline.logprobs) == [-1.5] and len(outline.token_ids) == 2
    assert outline.filtered == "x" * 200 and (outline.prompt, outline.responses) == ("", ())
    for name in ("task", "doc_id", "scores", "seconds", "degenerate", "finish_reasons"):
        assert getattr(outline, name) == getattr(whole, name)
    assert len(empty.token_ids) == len(empty.logprobs) == 0
    texts = [each.prompt for each in read_texts(file)]
    assert texts == [own.prompt, bare.prompt]
    ((place, full),) = with_texts(file, [outline, empty], [1])
    assert (place, full.prompt, full.responses) == (1, bare.prompt, tuple(bare.responses))


def test_a_file_of_many_batches_keeps_its_order(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    rows = [row(n, logprobs=[-float(n)] * 2, answer_tokens=[n % 7]) for n in range(2500)]
    write_samples(file, [sample_table(rows)])
    outlines = read_outlines(file)
    assert [list(each.logprobs) for each in outlines] == [[-float(n)] for n in range(2500)]
    assert [len(each.token_ids) for each in outlines] == [n % 7 for n in range(2500)]
    assert [list(each.logprobs) for each in read_samples(file)] == [
        [-float(n)] * 2 for n in range(2500)
    ]


# Rows of a run


def test_a_row_has_score_flags_and_answer(tmp_path: Path) -> None:
    samples = [
        row(0),
        row(1, "B", finish_reasons=["length"]),
        row(2, "B", filtered="[invalid]"),
        row(3, degenerate=["repeating"]),
        row(4, truncated=True),
        row(5, choice_logprobs=[-3.0, -1.0], responses=["(-3.0, False)", "(-1.0, True)"]),
    ]
    found = of_run(tmp_path / "run", samples)
    listing = unpacked(found.index)["listing"]
    assert flags_of(listing) == [
        set(),
        {"wrong", "cut"},
        {"wrong", "unparsable"},
        {"degenerate"},
        {"cut"},
        set(),
    ]
    values = listing["values"]
    assert values["score"] == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert values["right"] == [True, False, False, True, True, True]
    assert values["answer"] == ["A", "B", "[invalid]", "A", "A", "choice 1"]
    assert [listing["tasks"][place] for place in values["task"]] == [
        "mini_colour",
        "mini_shape",
    ] * 3
    details = details_of(found)
    assert details[1]["prompt"] == samples[1].prompt
    assert details[2]["sides"][0]["parsed"] == {"": "[invalid]"}
    assert details[5]["sides"][0]["choices"] == [-3.0, -1.0]
    assert details[5]["sides"][0]["responses"] == []
    assert "finish reason length" in details[1]["sides"][0]["facts"]


def test_answers_without_any_right_one_are_wrong(tmp_path: Path) -> None:
    found = of_run(tmp_path / "run", [row(n, "B") for n in range(4)])
    assert listed(found)["right"] == [False] * 4


def test_equal_scores_of_other_metrics_tell_nothing(tmp_path: Path) -> None:
    """Lower is better, or the scores are no shares: the best score that was seen may be wrong."""
    equal = [row(n, scores={"wer": 0.5}) for n in range(4)]
    assert listed(of_run(tmp_path / "a", equal, higher_is_better=False))["right"] == [None] * 4
    assert (
        listed(of_run(tmp_path / "b", [row(n, scores={"bleu": 12.0}) for n in range(4)]))["right"]
        == [None] * 4
    )
    other = [row(n, scores={"wer": 0.5 * n}) for n in range(0, 6, 2)]
    found = of_run(tmp_path / "c", other, higher_is_better=False)
    assert listed(found)["right"] == [True, False, False]


@pytest.mark.parametrize("place", [0, 3])
def test_a_score_that_is_not_a_number_is_not_the_best(tmp_path: Path, place: int) -> None:
    scores = [1.0, 1.0, 0.0, 0.0]
    scores[place] = math.nan
    run = write_run(tmp_path / "run", [row(n) for n in range(4)])
    samples = [row(n, scores={"acc": score}) for n, score in enumerate(scores)]
    write_samples(RunDirectory(run).samples, [sample_table(samples)])
    right = listed(of_directory(run))["right"]
    assert right == [score == 1.0 for score in scores]


def test_a_tag_is_scored_by_its_subtasks(tmp_path: Path) -> None:
    """The subtasks have scores of their own, on scales of their own."""
    samples = [
        row(0, scores={"acc": 0.0, "bleu": 30.0}),
        row(1, scores={"acc": 0.0}),
        row(2, scores={"acc": 0.0, "bleu": 10.0}),
        row(3, scores={"acc": 1.0}),
    ]
    run = write_run(tmp_path / "run", [row(0)])
    write_samples(RunDirectory(run).samples, [sample_table(samples)])
    outcome_of(run, metric("mini_colour", "bleu"), metric("mini_shape", "acc"))
    values = listed(of_directory(run))
    assert values["score"] == [30.0, 0.0, 10.0, 1.0]
    assert values["right"] == [True, False, False, True]


def test_a_subtask_without_the_groups_metric_has_a_scale_of_its_own(tmp_path: Path) -> None:
    samples = [row(n, scores={"bleu": 10.0 * n} if n % 2 else {"acc": 1.0}) for n in range(6)]
    run = write_run(tmp_path / "run", [row(0)])
    write_samples(RunDirectory(run).samples, [sample_table(samples)])
    outcome_of(
        run, metric("mini", "acc"), metric("mini_colour", "acc"), metric("mini_shape", "bleu")
    )
    right = listed(of_directory(run))["right"]
    assert right == [True, False, True, False, True, True]


def test_a_scored_choice_is_never_cut(tmp_path: Path) -> None:
    """Engines score it with a limit of one token, and say that they reached it."""
    scored = {"choice_logprobs": [-1.0, -3.0], "finish_reasons": ["length"] * 2}
    found = of_run(tmp_path / "run", [row(n, **scored) for n in range(2)])
    assert flags_of(unpacked(found.index)["listing"]) == [set(), set()]
    assert not any("length" in fact for fact in details_of(found)[0]["sides"][0]["facts"])


def test_choices_have_no_numbers_if_one_was_not_scored(tmp_path: Path) -> None:
    """It is missing among the log-likelihoods, and may come before the others."""
    scored = {"choice_logprobs": [-1.0, -3.0], "responses": ["(-1, True)"] * 3}
    found = of_run(
        tmp_path / "run",
        [
            row(0, **scored, finish_reasons=["length"] * 2),
            row(1, **scored, finish_reasons=["prompt_too_long", "length", "length"]),
        ],
    )
    assert listed(found)["answer"] == ["choice 0", "choice unknown"]
    assert [each["sides"][0]["numbered"] for each in details_of(found)] == [True, False]


def test_filters_of_a_sample_are_one_row(tmp_path: Path) -> None:
    """All documents come under the first filter, then all under the second."""
    strict = [row(n, filter="strict", scores={"em": 0.0}, filtered="[invalid]") for n in range(4)]
    loose = [row(n, filter="loose", scores={"em": 1.0}) for n in range(4)]
    found = of_run(tmp_path / "run", [*strict, *loose])
    assert found.count == 4
    for each in details_of(found):
        (side,) = each["sides"]
        assert side["scores"] == {"em,strict": 0.0, "em,loose": 1.0}
        assert side["parsed"] == {"strict": "[invalid]"}


def test_what_was_parsed_is_whole_under_every_filter(tmp_path: Path) -> None:
    """The rows of further filters come later in the file than the texts of their samples."""
    long = "word " * 200
    answer = {"responses": [f"{long}and the end"], "scores": {"em": 1.0}}
    parsed = [f"{long}one", f"{long}two"]
    own = [row(n, filter="own", filtered=parsed[n], **answer) for n in range(2)]
    same = [row(n, filter="same", filtered=answer["responses"][0], **answer) for n in range(2)]
    late = [row(n, filter="late", filtered=f"{long}{n}", **answer) for n in range(2)]
    found = details_of(of_run(tmp_path / "run", [*own, *same, *late]))
    assert [each["sides"][0]["parsed"] for each in found] == [
        {"own": f"{long}one", "late": f"{long}0"},
        {"own": f"{long}two", "late": f"{long}1"},
    ]


def test_every_answer_to_a_question_is_a_row(tmp_path: Path) -> None:
    samples = [row(n, repeat=turn, responses=[f"A {turn}"]) for turn in range(3) for n in range(4)]
    found = of_run(tmp_path / "run", samples)
    values = unpacked(found.index)["listing"]["values"]
    assert values["repeat"] == [0] * 4 + [1] * 4 + [2] * 4
    assert [each["sides"][0]["responses"] for each in details_of(found)][4] == ["A 1"]


# Blocks


def test_texts_that_fit_are_whole_and_in_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "BLOCK", 2000)
    texts = [f"text {n} " + "word " * (n % 50) for n in range(200)]
    found = of_texts(texts)
    assert found.longest is None and len(found.texts.packed) > 5
    for start, block in zip(found.texts.starts, found.texts.packed, strict=True):
        details = unpacked(block)
        assert [each["prompt"] for each in details] == texts[start : start + len(details)]


@pytest.mark.parametrize("most", [20_000, 10_000_000])
def test_texts_may_come_in_any_order(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    rng = random.Random(2)
    monkeypatch.setattr(present, "MOST_TEXT", most)
    for module in (present, packed):
        monkeypatch.setattr(module, "BLOCK", 2000)
    details = [
        (n, Detail("".join(rng.choices("abcdefgh ", k=rng.randrange(900))), f"target {n}"))
        for n in range(200)
    ]
    mixed = rng.sample(details, len(details))
    values: dict[str, list[Any]] = {"doc": list(range(len(details)))}
    listing = Listing((), values, (), (), ())
    ordered = browser(listing, lambda: details, {})
    assert (ordered.longest is None) is (most > 1_000_000) and len(ordered.texts.packed) > 5
    assert browser(listing, lambda: mixed, {}) == ordered


@pytest.mark.parametrize(
    ("most", "alphabet"), [(20_000, "abcdefgh "), (4_000, "abcdefgh "), (20_000, "模型答案不对")]
)
def test_texts_that_do_not_fit_are_cut_evenly(
    monkeypatch: pytest.MonkeyPatch, most: int, alphabet: str
) -> None:
    """Short texts stay whole, and the blocks never exceed their limit."""
    rng = random.Random(1)
    monkeypatch.setattr(present, "MOST_TEXT", most)
    long = ["".join(rng.choices(alphabet, k=4000)) for _ in range(40)]
    found = of_texts([*long, *(f"short {n}" for n in range(20))])
    assert found.longest is not None and found.texts.size <= most
    assert found.texts.size > most / 3
    prompts = [each["prompt"] for each in details_of(found)]
    assert prompts[40:] == [f"short {n}" for n in range(20)]
    assert all("characters omitted" in each for each in prompts[:40])


def test_no_room_at_all_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "MOST_TEXT", 10)
    found = of_texts(["some text" * 20] * 50)
    assert found.longest == 0
    details = details_of(found)
    assert [(each["prompt"], each["sides"][0]["responses"]) for each in details] == [("", [])] * 50


def test_a_text_cut_to_nothing_has_no_end() -> None:
    assert clip("abcdef", 0) == "\n… 6 characters omitted …\n"
    assert clip("abcdef", 3) == "ab\n… 3 characters omitted …\nf"


def test_few_passes_find_the_length_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Chinese character takes up to three bytes, and two of them compressed."""
    rng = random.Random(1)
    alphabet = [chr(code) for code in range(0x4E00, 0x6200)]
    text = ["".join(rng.choices(alphabet, k=1500)) for _ in range(200)]
    most = 320_000
    monkeypatch.setattr(present, "MOST_TEXT", most)
    passes = 0

    def details() -> list[Detail]:
        nonlocal passes
        passes += 1
        return [Detail(each, "") for each in text]

    values: dict[str, list[Any]] = {"doc": list(range(len(text)))}
    found = browser(Listing((), values, (), (), ()), lambda: enumerate(details()), {})
    assert 0.7 * most < found.texts.size <= most and passes <= 4


def test_images_are_kept_once_until_the_room_is_full(tmp_path: Path) -> None:
    pictures = [Image.effect_noise((200, 200), 90 + n).convert("RGB") for n in range(4)]
    kept = Album()
    for picture in pictures:
        kept.add(picture)
    kept.write(tmp_path / "images.parquet")
    hashes = [image_hash(picture) for picture in pictures]
    whole = album([tmp_path / "images.parquet"], [*hashes, *hashes, "unknown"], None)
    assert list(whole) == hashes and all(each.address for each in whole.values())
    room = sum(len(whole[each].address) for each in hashes[2:])
    some = album([tmp_path / "images.parquet"], list(reversed(hashes)), room)
    assert [bool(some[each].address) for each in hashes] == [False, False, True, True]
    assert all(some[each].width == 200 for each in hashes)


def test_an_image_that_is_left_out_is_counted() -> None:
    values: dict[str, list[Any]] = {"doc": []}
    images = {"a": Picture(4, 3, "data:a"), "b": Picture(2, 1, ""), "c": Picture(6, 5, "data:c")}
    found = browser(Listing((), values, (), (), ()), lambda: [], images)
    assert found.hidden == 1
    assert unpacked(found.index)["places"] == {"a": [0, 4, 3], "b": [-1, 2, 1], "c": [1, 6, 5]}
    assert unpacked(found.images.packed[0]) == ["data:a", "data:c"]


# Pages


def test_a_comparison_has_every_question_flips_first(tmp_path: Path) -> None:
    tied = {"margins": [0.1, 9.0]}
    write_run(tmp_path / "a", [row(n, "B" if n == 4 else "A", **tied) for n in range(12)])
    second = [row(n, "B" if n in (1, 4) else "A", **tied) for n in range(10)]
    second.append(row(10, "B", prompt="another", prompt_hash="p", doc_hash=row(10).doc_hash))
    second[3] = replace(second[3], responses=["A."], token_ids=[13, 2])
    write_run(tmp_path / "b", second)
    compare([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "page")])
    blocks = of_page((tmp_path / "page" / "compare.html").read_text())
    listing = blocks["index"]["listing"]
    values = listing["values"]
    causes = [listing["choices"][1]["names"][place] for place in values["cause"]]
    assert sorted(causes) == sorted(
        ["prompt rendered differently", "near-tie", "near-tie", "only in A", *["same answer"] * 8]
    )
    names = [each["name"] for each in listing["flags"]]
    flipped = [own >> names.index("flipped") & 1 for own in values["flags"]]
    assert flipped == [1, 1] + [0] * 10
    details = blocks["texts-0"]
    place = causes.index("prompt rendered differently")
    assert details[place]["second_prompt"] == "another"
    assert [bool(side) for side in details[causes.index("only in A")]["sides"]] == [True, False]
    only = details[values["doc"].index(0)]
    assert only["second_prompt"] is None and len(only["sides"]) == 2
    assert "questions" not in json.loads((tmp_path / "page" / "compare.json").read_text())


def test_a_comparison_tells_right_from_wrong_only_by_shares(tmp_path: Path) -> None:
    for name, scores, higher in (
        ("acc", (0.0, 1.0), True), ("wer", (0.0, 1.0), False), ("bleu", (0.0, 12.0), True)
    ):  # fmt: skip
        for side in "ab":
            samples = [row(n, scores={name: score}) for n, score in enumerate(scores)]
            write_run(tmp_path / name / side, samples, higher_is_better=higher)
        folder = tmp_path / name
        compare([str(folder / "a"), str(folder / "b"), "--output", str(folder / "page")])
        blocks = of_page((folder / "page" / "compare.html").read_text())
        listing = blocks["index"]["listing"]
        right = listing["values"]["first_right"]
        sides = [each["sides"][1]["right"] for each in blocks["texts-0"]]
        wrong = ["wrong in A" in flags for flags in flags_of(listing)]
        if name == "acc":
            assert (right, sides, wrong) == ([False, True], [False, True], [True, False])
        else:
            assert (right, sides, wrong) == ([None, None], [None, None], [False, False])


def test_the_policy_allows_the_script_of_the_page_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [row(n) for n in range(4)])
    write_run(tmp_path / "b", [row(n) for n in range(4)])
    compare([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "page")])
    page = (tmp_path / "page" / "compare.html").read_text()
    (code,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (allowed,) = re.findall(r"script-src ([^;\"]*)", page)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert allowed == f"'sha256-{digest}'"
    policy = page.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy
