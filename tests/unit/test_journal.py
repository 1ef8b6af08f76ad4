"""The journal on disk: whatever happens to process or disk, a resumed run gets whole answers."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.errors import UserError
from runner.journal.__main__ import main
from runner.journal.attempts import FIRST_LINE, CorruptError, attempts, line, records
from runner.lm.answer import Answer
from runner.lm.journal import Journal, open_journal
from runner.plan import JournalPlan, Plan
from runner.rundir import write_json
from runner.runtimes.vllm.engine import Question
from runner.status import Status
from runner.verdict import Verdict

MIB = 2**20


class Params(msgspec.Struct):
    """Sampling parameters, as msgspec as vLLM's."""

    temperature: float = 0.0
    seed: int | None = None
    max_tokens: int = 16
    stop: list[str] = []


def question(
    text: str = "Q", kind: str = "generate", images: Any = None, **params: Any
) -> Question:
    prompt = {"prompt": text} | ({"multi_modal_data": {"image": images}} if images else {})
    return Question(prompt, Params(**params), kind, lambda output: answer())


def answer(text: str = "A") -> Answer:
    return Answer(3, (5, 7), (-0.1, -2.5e-17), (float("inf"), 0.25), "stop", text)


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, warned: list[str]) -> Any:
    def start(engine: str = "engine", most: float = 64 * MIB) -> Journal:
        return Journal(tmp_path / engine, tmp_path / "run", most, warned.append)

    return start


def record(journal: Journal, *asked: tuple[Question, Answer]) -> None:
    for each, response in asked:
        key, known = journal.take(each)
        assert known is None
        journal.keep(key, response)
    journal.flush()


def files(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("*/*"))


def test_an_attempt_that_died_answers_the_next_one_to_the_last_bit(opened: Any) -> None:
    died = opened()
    odd = replace(answer('quote " newline \n emoji 🙂 half \ud83d'), reasoning="Hm. 🙂 \ud83d")
    scored = Answer(
        9, (1,), (), (), "length", "", scored=-12.3456789012345678, greedy=True, seconds=0.1
    )
    record(died, (question("Q1"), odd), (question("Q2", kind="score from 4"), scored))
    died.close(completed=False)
    resumed = opened()
    assert resumed.take(question("Q1"))[1] == odd
    (_, known) = resumed.take(question("Q2", kind="score from 4"))
    assert known == scored and known.seconds == 0.1


@pytest.mark.parametrize(
    "other",
    [
        question("R"),
        question(kind="score from 3"),
        question(max_tokens=17),
        question(stop=["."]),
        question(seed=4),
        question(images=[Image.new("RGB", (4, 4), "red")]),
    ],
)
def test_another_question_is_not_answered(opened: Any, other: Question) -> None:
    died = opened()
    record(died, (question(), answer()))
    died.close(completed=False)
    assert opened().take(other)[1] is None


def test_one_pixel_makes_another_question(opened: Any) -> None:
    image = Image.new("RGB", (8, 8), "red")
    changed = image.copy()
    changed.putpixel((3, 3), (254, 0, 0))
    died = opened()
    record(died, (question(images=[image]), answer()))
    died.close(completed=False)
    resumed = opened()
    assert resumed.take(question(images=[changed]))[1] is None
    assert resumed.take(question(images=[image.copy()]))[1] == answer()


def test_token_ids_are_a_prompt_too(opened: Any) -> None:
    died = opened()
    asked = Question({"prompt_token_ids": [1, 2]}, Params(), "generate", lambda output: answer())
    other = Question({"prompt_token_ids": [1, 3]}, Params(), "generate", lambda output: answer())
    record(died, (asked, answer()))
    died.close(completed=False)
    resumed = opened()
    assert resumed.take(other)[1] is None
    assert resumed.take(asked)[1] == answer()


def test_another_engine_is_not_answered(opened: Any) -> None:
    died = opened("one")
    record(died, (question(), answer()))
    died.close(completed=False)
    assert opened("other").take(question())[1] is None


def test_equal_questions_are_answered_as_often_as_they_were(opened: Any) -> None:
    died = opened()
    record(died, (question(), answer("first")), (question(), answer("second")))
    died.close(completed=False)
    resumed = opened()
    found = [resumed.take(question())[1] for _ in range(3)]
    assert found == [answer("first"), answer("second"), None]


def test_what_is_drawn_without_a_seed_is_not_kept(opened: Any, tmp_path: Path) -> None:
    died = opened()
    record(died, (question(temperature=0.8), answer()))
    assert files(tmp_path) == []
    record(died, (question(temperature=0.8, seed=3), answer()))
    died.close(completed=False)
    resumed = opened()
    assert resumed.take(question(temperature=0.8))[1] is None
    assert resumed.take(question(temperature=0.8, seed=4))[1] is None
    assert resumed.take(question(temperature=0.8, seed=3))[1] == answer()


def test_a_completed_run_leaves_nothing_and_is_no_cache(opened: Any, tmp_path: Path) -> None:
    died = opened()
    record(died, (question("Q1"), answer()))
    died.close(completed=False)
    completed = opened()
    assert completed.take(question("Q1"))[1] == answer()
    record(completed, (question("Q2"), answer()))
    completed.close(completed=True)
    assert files(tmp_path) == []
    assert opened().take(question("Q1"))[1] is None


def test_a_completed_run_leaves_what_it_did_not_ask(opened: Any) -> None:
    died = opened()
    record(died, (question("mine"), answer()), (question("another task's"), answer("other")))
    died.close(completed=False)
    completed = opened()
    completed.take(question("mine"))
    completed.close(completed=True)
    resumed = opened()
    assert resumed.take(question("mine"))[1] is None
    assert resumed.take(question("another task's"))[1] == answer("other")


def test_attempts_that_died_one_after_another_add_up(opened: Any) -> None:
    for text in ("Q1", "Q2", "Q3"):
        died = opened()
        assert (
            sum(died.take(question(f"Q{n}"))[1] is not None for n in (1, 2, 3)) == int(text[1]) - 1
        )
        key, _ = opened("elsewhere").take(question(text))
        died.keep(key, answer(text))
        died.flush()
        died.close(completed=False)
    resumed = opened()
    assert [resumed.take(question(f"Q{n}"))[1] for n in (1, 2, 3)] == [
        answer("Q1"),
        answer("Q2"),
        answer("Q3"),
    ]


# Writes until it is killed, slowly: each record is read again below.
WRITER = """
import sys, time
from pathlib import Path
from tests.unit.test_journal import answer, question
from runner.lm.journal import Journal, open_journal
from runner.plan import JournalPlan, Plan
from runner.rundir import write_json
from runner.verdict import Verdict
from runner.status import Status
journal = Journal(Path(sys.argv[1]), Path("run"), 2**26, print)
for number in range(100000):
    key, known = journal.take(question(f"{sys.argv[2]} {number}"))
    if known is None:
        journal.keep(key, answer(f"{sys.argv[2]} {number}"))
        journal.flush()
    if number == 50:
        print("going", flush=True)
    if number > 50:
        time.sleep(0.005)
"""


def writer(directory: Path, name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None and process.stdout.readline() == "going\n"
    return process


def test_a_killed_process_loses_nothing_and_a_living_one_is_left_alone(
    opened: Any, tmp_path: Path
) -> None:
    one, other = writer(tmp_path / "engine", "one"), writer(tmp_path / "engine", "other")
    try:
        one.send_signal(signal.SIGKILL)
        one.wait()
        resumed = opened()
        answered = 0
        while (known := resumed.take(question(f"one {answered}"))[1]) is not None:
            assert known == answer(f"one {answered}")
            answered += 1
        assert answered > 50
        assert resumed.take(question("other 1"))[1] is None
        resumed.close(completed=True)
        assert len(files(tmp_path)) == 1
    finally:
        other.kill()
        other.wait()
    assert opened().take(question("other 1"))[1] == answer("other 1")


def test_a_torn_tail_costs_the_record_that_was_torn(opened: Any, tmp_path: Path) -> None:
    died = opened()
    record(died, (question("Q1"), answer()), (question("Q2"), answer()))
    died.close(completed=False)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    resumed = opened()
    assert resumed.take(question("Q1"))[1] == answer()
    assert resumed.take(question("Q2"))[1] is None


def test_a_corrupt_file_is_set_aside_and_named(
    opened: Any, tmp_path: Path, warned: list[str]
) -> None:
    died = opened()
    record(died, (question("Q1"), answer()), (question("Q2"), answer()))
    died.close(completed=False)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[30] ^= 1
    file.write_bytes(content)
    resumed = opened()
    assert resumed.take(question("Q1"))[1] is None
    record(resumed, (question("Q2"), answer()))
    assert [str(file) in text and ".corrupt" in text for text in warned] == [True]
    assert file.with_suffix(".corrupt") in files(tmp_path)


def test_records_of_earlier_versions_are_answers(opened: Any, tmp_path: Path) -> None:
    """They lack the fields that were added later: the reasoning, and before it the top tokens."""
    died = opened()
    record(died, (question("Q1"), answer()), (question("Q2"), answer("B")))
    died.close(completed=False)
    (file,) = files(tmp_path)
    with file.open("rb") as lines:
        _, *answers = [json.loads(content) for _, content in records(lines)]
    old = [each[:-number] for number, each in enumerate(answers, start=1)]
    contents = [json.dumps(each).encode() for each in old]
    file.write_bytes(b"".join(map(line, (FIRST_LINE, *contents))))
    resumed = opened()
    assert resumed.take(question("Q1"))[1] == answer()
    assert resumed.take(question("Q2"))[1] == answer("B")


@pytest.mark.parametrize(
    "wrong",
    [
        b"7",
        b"null",
        b'"text"',
        b"[]",
        b'["digest"]',
        b'["digest",0]',
        b'[["digest"],0,3,[5],[-0.1],[0.2],"stop"]',
        b'["digest",0,3,"x",[-0.1],[0.2],"stop"]',
        b'["digest",0,3,[5],[-0.1],[0.2],"stop","A",null,false,1.0,"","","more"]',
    ],
)
def test_a_record_of_another_shape_is_set_aside(
    opened: Any, tmp_path: Path, warned: list[str], wrong: bytes
) -> None:
    died = opened()
    record(died, (question("Q1"), answer()))
    died.close(completed=False)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes() + line(wrong))
    assert opened().take(question("Q1"))[1] is None
    assert ["not an answer" in text for text in warned] == [True]
    assert files(tmp_path) == [file.with_suffix(".corrupt")]


@pytest.mark.parametrize("content", [b'{"status": "PASSED", "rea', b"", b"[]"])
def test_a_verdict_that_cannot_be_read_costs_no_answer(
    opened: Any, tmp_path: Path, warned: list[str], content: bytes
) -> None:
    died = opened()
    record(died, (question("Q1"), answer()))
    died.close(completed=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "verdict.json").write_bytes(content)
    assert opened().take(question("Q1"))[1] == answer()
    assert warned == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(min_value=0), noise=st.binary(max_size=60))
def test_whatever_stands_behind_a_cut_no_answer_is_wrong(cut: int, noise: bytes) -> None:
    whole = [line(FIRST_LINE), *(line(b'["%d",0]' % number) for number in range(9))]
    content = b"".join(whole)
    content = content[: cut % (len(content) + 1)] + noise
    try:
        found = [each for _, each in records(content.splitlines(keepends=True))]
    except CorruptError:
        return
    assert found == [b'["%d",0]' % number for number in range(len(found))]


@pytest.mark.parametrize(("status", "used"), [("PASSED", False), ("ERROR", True)])
def test_what_a_run_with_a_result_left_is_of_no_use(
    opened: Any, tmp_path: Path, status: str, used: bool
) -> None:
    """Its worker was killed after the last answer: a nightly run must not be answered from that."""
    died = opened()
    record(died, (question("Q1"), answer()))
    died.close(completed=False)
    went_on = opened()
    assert went_on.take(question("Q1"))[1] == answer()
    record(went_on, (question("Q2"), answer()))
    went_on.close(completed=False)
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "verdict.json", Verdict(Status(status), "", "", (), 0))
    another = opened()
    assert [another.take(question(each))[1] is not None for each in ("Q1", "Q2")] == [used, used]
    assert bool(list(tmp_path.glob("engine/*"))) is used


def test_a_full_disk_costs_the_journal_and_not_the_run(
    opened: Any, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    died = opened()
    record(died, (question("Q1"), answer()))
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) > 10:
            return write(descriptor, content[:10])  # what there was room for
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("runner.lm.journal.os.write", full)
    record(died, (question("Q2"), answer()))
    record(died, (question("Q3"), answer()))
    assert len(warned) == 1 and "No space left on device" in warned[0]
    died.close(completed=False)
    assert opened().take(question("Q1"))[1] == answer()


def test_a_directory_that_cannot_be_made_costs_the_journal_and_not_the_run(
    tmp_path: Path, warned: list[str]
) -> None:
    (tmp_path / "journal").write_text("a file")
    journal = Journal(tmp_path / "journal" / "engine", tmp_path / "run", MIB, warned.append)
    record(journal, (question("Q1"), answer()), (question("Q2"), answer()))
    journal.close(completed=True)
    assert len(warned) == 1 and "journal" in warned[0]


def test_the_size_is_kept_to(opened: Any, tmp_path: Path, warned: list[str]) -> None:
    for number in range(3):
        died = opened(f"engine{number}")
        record(died, (question(), answer("long " * 1000)))
        died.close(completed=False)
        os.utime(files(tmp_path)[-1], (number, number))
    running = opened("now", most=13_000)
    assert [file.parent.name for file in files(tmp_path)] == ["engine1", "engine2"]
    record(running, (question("Q1"), answer()))
    record(running, (question("Q2"), answer("long " * 1000)))
    assert [text for text in warned if "max_gib" in text]
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 13_000


def test_the_command_lists_and_prunes(
    opened: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    died, running = opened("one"), opened("two")
    record(died, (question(), answer()))
    record(running, (question(), answer()))
    died.close(completed=False)
    directory = ["--dir", str(tmp_path)]
    assert main(directory) == 0
    listed = capsys.readouterr().out
    assert "stopped" in listed and "running" in listed and "2 attempts" in listed
    assert main(["prune", "--older-than", "1", *directory]) == 0
    assert "0 of 2 attempts removed" in capsys.readouterr().out
    assert main(["prune", "--max-gib", "0", *directory]) == 0
    assert "1 of 2 attempts removed" in capsys.readouterr().out
    assert [each.engine for each in attempts(tmp_path)] == ["two"]


@pytest.mark.parametrize(
    "wrong",
    [["prune"], ["list", "--max-gib", "1"], ["burn"], ["prune", "--max-gib", "-1"]],
)
def test_wrong_usage_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(wrong) == 1
    assert "usage" in capsys.readouterr().err


def test_help_answers_at_once() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "runner.journal", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "Exit status" in done.stdout
    assert time.monotonic() - began < 30
    assert not any(name in done.stderr for name in ("msgspec", "PIL", "numpy", "datasets"))


def stopping(tmp_path: Path, warned: list[str]) -> Callable[..., Journal]:
    def start(name: str, **how: Any) -> Journal:
        return Journal(tmp_path / "engine", tmp_path / name, MIB, warned.append, **how)

    return start


@pytest.mark.parametrize("verdict", [True, False])
def test_the_answers_of_a_stopped_run_are_for_the_run_that_continues_it(
    tmp_path: Path, warned: list[str], verdict: bool
) -> None:
    """Without its verdict, as if its directory had been removed: the journal knows."""
    start = stopping(tmp_path, warned)
    first = start("first", stops=True)
    record(first, (question("Q1"), answer()), (question("Q2"), answer()))
    first.close(completed=not verdict, stopped=True)
    if verdict:  # it was killed before the journal knew
        (tmp_path / "first").mkdir()
        stopped = Verdict(Status.PASSED, "", "", (), 0, stopped=True)
        write_json(tmp_path / "first" / "verdict.json", stopped)
    nightly = start("nightly")
    assert nightly.take(question("Q1"))[1] is None
    nightly.close(completed=True)
    continued = start("whole", continues=tmp_path / "first")
    assert continued.take(question("Q1"))[1] == answer()
    record(continued, (question("Q3"), answer()))
    continued.close(completed=False)  # it was interrupted
    other = start("other")
    assert [other.take(question(each))[1] for each in ("Q1", "Q3")] == [None, None]
    other.close(completed=True)
    again = start("again", continues=tmp_path / "first")
    assert [again.take(question(each))[1] for each in ("Q1", "Q3")] == [answer(), answer()]
    again.close(completed=True)  # with the answer to Q2, which was not used
    assert not list(tmp_path.glob("engine/*"))


@pytest.mark.parametrize("interrupted", [True, False])
def test_the_next_run_that_may_stop_early_removes_them(
    tmp_path: Path, warned: list[str], interrupted: bool
) -> None:
    start = stopping(tmp_path, warned)
    first = start("first", stops=True)
    record(first, (question("Q1"), answer()))
    first.close(completed=True, stopped=True)
    if interrupted:
        start("whole", continues=tmp_path / "first").close(completed=False)
    second = start("second", stops=True)
    assert second.take(question("Q1"))[1] is None
    assert not list(tmp_path.glob("engine/*.answers"))


def test_a_run_cannot_be_continued_twice(tmp_path: Path, plan: Plan, warned: list[str]) -> None:
    where = JournalPlan(str(tmp_path / "engine"), 1.0, str(tmp_path / "first"))
    plan = replace(plan, engine_args={})
    with pytest.raises(UserError, match="none of that run's answers are left"):
        open_journal(plan, where, tmp_path / "run", warned.append)
    first = Journal(tmp_path / "engine", tmp_path / "first", MIB, warned.append, stops=True)
    record(first, (question("Q1"), answer()))
    first.close(completed=True, stopped=True)
    continued = open_journal(plan, where, tmp_path / "run", warned.append)
    assert continued.take(question("Q1"))[1] == answer()
    continued.close(completed=True)
    with pytest.raises(UserError, match="remove the key"):
        open_journal(plan, where, tmp_path / "run", warned.append)
