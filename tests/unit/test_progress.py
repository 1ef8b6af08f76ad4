"""What a person sees while a run goes on: lines in a log, a bar in a terminal."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from runner.channel.worker import (
    EngineStarted,
    Heartbeat,
    Progress,
    Retry,
    RunEnded,
    Stage,
    StageBegun,
    TaskFinished,
    Waiting,
    WorkerStarted,
)
from runner.outcome import State
from runner.report import progress
from runner.report.progress import ProgressDisplay

ENGINE = {
    "architectures": ["Qwen3ForCausalLM"],
    "dtype": "bfloat16",
    "max_model_len": 4096,
    "num_gpu_blocks": 1000,
}


class Clock:
    """Stands for the module `time`; a test moves it."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(progress, "time", stopped)
    return stopped


def log() -> Console:
    return Console(file=StringIO(), width=120, highlight=False, markup=False, emoji=False)


def written(console: Console) -> list[str]:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def step(
    done: int, total: int = 100, task: str = "gsm8k", number: int = 1, tasks: int = 1
) -> Progress:
    return Progress(task, number, tasks, done, total)


def test_stages_and_the_engine_are_lines() -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(WorkerStarted(pid=1))
        display.show(StageBegun(Stage.STARTING_ENGINE))
        display.show(EngineStarted(ENGINE))
        display.show(TaskFinished("gsm8k", seconds=12.4))
        display.show(RunEnded(State.COMPLETED))
    assert written(console) == [
        "starting engine …",
        "engine started: Qwen3ForCausalLM, bfloat16, max_model_len 4096, 1000 KV blocks",
        "gsm8k finished in 12 s",
    ]


def test_a_point_of_a_sweep_tells_what_takes_its_time(clock: Clock) -> None:
    console = log()
    with ProgressDisplay(console, brief=True) as display:
        display.show(StageBegun(Stage.LOADING_TASKS))
        display.show(StageBegun(Stage.STARTING_ENGINE))
        display.show(step(0))
        clock.now += 1
        display.show(step(100))
        display.show(TaskFinished("gsm8k", seconds=1.0))
    assert written(console) == [
        "starting engine …",
        "gsm8k: 100/100 requests, 100.0 requests/s",
    ]


def test_progress_is_a_line_every_ten_seconds_with_rate_and_time_left(clock: Clock) -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0))
        for second in range(1, 21):
            clock.now = 1000.0 + second
            display.show(step(2 * second))
    assert written(console) == [
        "gsm8k: 20/100 requests, 2.0 requests/s, 40 s left",
        "gsm8k: 40/100 requests, 2.0 requests/s, 30 s left",
    ]


def test_the_last_request_is_always_a_line(clock: Clock) -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0))
        clock.now += 1
        display.show(step(100))
    assert written(console) == ["gsm8k: 100/100 requests, 100.0 requests/s"]


def test_the_worker_estimates_the_time_left_better_than_the_finished_requests(
    clock: Clock,
) -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0, total=600))
        clock.now += 60
        display.show(step(598, total=600))
        clock.now += 10
        display.show(Heartbeat(700, seconds_left=85.4))
        clock.now += 9
        display.show(Heartbeat(790, seconds_left=76.0))
        clock.now += 1
        display.show(Heartbeat(800, seconds_left=7500.0))
        clock.now += 10
        display.show(Heartbeat(900, seconds_left=None))
        clock.now += 1
        display.show(step(600, total=600))
    assert written(console)[1:] == [
        "gsm8k: 598/600 requests, 8.5 requests/s, 85 s left",
        "gsm8k: 598/600 requests, 7.5 requests/s, 2 h 5 min left",
        "gsm8k: 598/600 requests, 6.6 requests/s",
        "gsm8k: 600/600 requests, 6.6 requests/s",
    ]


def test_tokens_are_progress_while_no_answer_is_finished(clock: Clock) -> None:
    """Reasoning takes minutes before the first answer of all is there."""
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0))
        for second, tokens in ((5, 4000), (10, 9000), (20, 30000)):
            clock.now = 1000.0 + second
            display.show(Heartbeat(second, seconds_left=None, tokens=tokens))
        clock.now += 10
        display.show(step(50))
        display.show(step(0, task="mmlu"))
        clock.now += 10
        display.show(step(10, task="mmlu"))
    assert written(console) == [
        "gsm8k: 0/100 requests, 900 tokens/s",
        "gsm8k: 0/100 requests, 1,500 tokens/s",
        "gsm8k: 50/100 requests, 1.7 requests/s, 1,500 tokens/s",
        "mmlu: 10/100 requests, 1.0 requests/s, 90 s left",
    ]


def test_an_estimate_ends_with_its_task(clock: Clock) -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0))
        display.show(Heartbeat(7, seconds_left=85.4))
        display.show(step(0, task="mmlu"))
        clock.now += 10
        display.show(step(50, task="mmlu"))
    assert written(console) == ["mmlu: 50/100 requests, 5.0 requests/s, 10 s left"]


def test_a_terminal_shows_how_long_a_stage_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with ProgressDisplay(console) as display:
        display.show(StageBegun(Stage.STARTING_ENGINE))
        assert display._live is not None
        display._live._live.refresh()
        display.show(EngineStarted(ENGINE))
        display.show(step(0))
        display.show(step(50))
        display._live._live.refresh()
    text = re.sub(r"\x1b\[[\d;?]*\w", "", "\n".join(written(console)))
    assert re.search(r"starting engine 0:00:00", text)
    assert re.search(r"gsm8k .* 50/100", text)
    assert "starting engine …" not in text


def test_every_stage_has_a_text() -> None:
    assert set(progress.STAGES) == set(Stage)


def test_the_first_answers_promise_nothing(clock: Clock) -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0, total=1000))
        clock.now += 60
        display.show(step(1, total=1000))
    (line,) = written(console)
    assert "left" not in line


def test_answers_within_one_tick_of_the_clock(clock: Clock) -> None:
    with ProgressDisplay(log()) as display:
        display.show(step(0))
        display.show(step(100))


def test_a_request_before_the_beginning(clock: Clock) -> None:
    with ProgressDisplay(log()) as display:
        display.show(step(5))


def test_a_task_without_requests(clock: Clock) -> None:
    with ProgressDisplay(log()) as display:
        display.show(step(0, total=0))


def test_the_next_task_has_a_clock_of_its_own(clock: Clock) -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0, tasks=2))
        clock.now += 1000
        display.show(step(0, tasks=2, number=2, task="mmlu"))
        clock.now += 10
        display.show(step(50, tasks=2, number=2, task="mmlu"))
    assert written(console) == ["mmlu (2/2): 50/100 requests, 5.0 requests/s, 10 s left"]


@pytest.mark.parametrize("name", ["gsm8k", "[/red]", "[bold]x", ":smile:", "a\nb", "x" * 500])
def test_a_terminal_shows_any_name_and_is_left_as_it_was(name: str) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with ProgressDisplay(console) as display:
        display.show(StageBegun(Stage.LOADING_TASKS))
        display.show(step(0, task=name))
        display.show(step(50, task=name))
        display.show(step(0, task=name, number=2, tasks=2))
        display.show(step(100, task=name, number=2, tasks=2))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")  # the cursor is back


def test_a_terminal_is_left_as_it_was_when_a_run_is_interrupted() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), ProgressDisplay(console) as display:
        display.show(step(0))
        raise KeyboardInterrupt
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_no_control_characters_in_a_log() -> None:
    console = log()
    with ProgressDisplay(console) as display:
        display.show(step(0))
        display.show(step(100))
    assert "\x1b" not in "\n".join(written(console))


def test_a_wait_and_a_retry_are_lines_of_their_own() -> None:
    out = log()
    with ProgressDisplay(out) as display:
        display.show(Waiting("waiting for memory"))
        display.show(Retry(number=1, of=2, reason="the worker died"))
        display.show(Heartbeat(3))
    assert isinstance(out.file, StringIO)
    assert out.file.getvalue() == ("waiting for memory\nthe worker died; retrying (1 of 2)\n")
