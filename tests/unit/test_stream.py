"""How requests reach the engine, shown on one that answers a question after as many steps as asked.

That answers are lm-eval's own, token for token, is tests/e2e/test_feeding.py's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.lm.answer import TOO_LONG, Answer
from runner.runtimes.vllm.engine import PromptError, Question, enqueue, steps_in_this_process
from runner.runtimes.vllm.stream import Stream

WINDOW = 4
PARAMS = SimpleNamespace(max_tokens=100)


class Engine:
    """`vllm.LLM` as far as the stream knows it: prompt n takes n steps."""

    def __init__(self) -> None:
        self.llm_engine = self
        self.steps = 0
        self.taken = 0
        self.most = 0
        self.aborted: list[str] = []
        self.left: dict[str, int] = {}
        self.break_at = -1

    def enqueue(
        self, prompts: list[int], sampling_params: Any, *, lora_request: Any, use_tqdm: bool
    ) -> list[str]:
        (steps,) = prompts
        if steps > 100:
            raise ValueError("The prompt is longer than the maximum model length of 100")
        self.taken += 1
        self.left[f"{self.taken}-internal"] = steps
        self.most = max(self.most, len(self.left))
        return [f"{self.taken}-internal"]

    def step(self) -> list[Any]:
        if self.steps == self.break_at:
            raise RuntimeError("the engine died")
        self.steps += 1
        self.left = {name: steps - 1 for name, steps in self.left.items()}
        done = [name for name, steps in self.left.items() if not steps]
        for name in done:
            del self.left[name]
        return [SimpleNamespace(request_id=name.split("-")[0], finished=True) for name in done]

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        assert internal
        self.aborted += request_ids


class Told:
    """What progress was told, in a line."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.beats = 0

    def enter(self, task: str) -> None:
        self.words.append(task)

    def begin(self, kind: str, total: int) -> None:
        self.words.append(f"{total}:")

    def advance(self, requests: int) -> None:
        self.words += [str(requests)] if requests else []

    def beat(self, seconds_left: Any = None, tokens: Any = None) -> None:
        self.beats += 1

    def end(self) -> None:
        pass


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def stream(engine: Engine, told: Told) -> Stream:
    return Stream(engine, told, WINDOW)


def ask(stream: Stream) -> Callable[[int], Answer]:
    """What lm-eval does with a request: one question, and its answer."""

    def asked(steps: int) -> Answer:
        def read(output: Any) -> Answer:
            return Answer(0, (0,) * steps, (), (), "stop", text=f"after {steps}")

        (answer,) = stream.ask([Question(steps, PARAMS, "generate", read)])
        return answer

    return asked


def test_answers_come_in_the_order_of_the_requests(stream: Stream, engine: Engine) -> None:
    lengths = [5, 1, 1, 7, 2, 1, 3]
    answers = stream.each("generate_until", ask(stream), lengths)
    assert [answer.text for answer in answers] == [f"after {steps}" for steps in lengths]
    assert engine.most == WINDOW


def test_a_short_answer_makes_room_at_once(stream: Stream, engine: Engine) -> None:
    """20 steps of one and 60 single ones: what chunks of four would take 79 steps for, or more."""
    stream.each("generate_until", ask(stream), [20] + [1] * 60)
    assert engine.steps == 20


def test_an_answer_says_how_long_the_engine_had_its_request(
    stream: Stream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second a step; the last two wait their turn outside, which does not count."""
    monkeypatch.setattr("runner.runtimes.vllm.stream.time.monotonic", lambda: float(engine.steps))
    answers = stream.each("generate_until", ask(stream), [5, 3, 1, 2, 7, 2, 101])
    assert [each.seconds for each in answers] == [5.0, 3.0, 1.0, 2.0, 7.0, 2.0, None]


def test_the_time_left_is_that_of_the_requests_in_flight_too(
    stream: Stream, engine: Engine, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second a step: when 30 of 31 are answered, the last one is in the engine for 60 more."""
    clock = "runner.runtimes.vllm.remaining.time.monotonic"
    monkeypatch.setattr(clock, lambda: float(engine.steps))
    left: list[float | None] = []
    monkeypatch.setattr(told, "beat", lambda seconds_left, tokens: left.append(seconds_left()))
    stream.each("generate_until", ask(stream), [100] + [4] * 30)
    assert left[:19] == [None] * 19
    ratios = [(each or 0) / (99 - step) for step, each in enumerate(left[:99]) if step >= 19]
    assert min(ratios) > 0.4 and max(ratios) < 2  # by the finished requests: 0.01 in the end


def test_a_chunk_waits_for_its_longest(stream: Stream, engine: Engine) -> None:
    stream.run([("a", lambda: stream.each("x", ask(stream), [20, *[1] * 6]) and None)], chunk=3)
    assert engine.steps == 20 + 1 + 1
    assert engine.most == 3


def test_a_request_is_prepared_when_its_turn_is_near(stream: Stream, engine: Engine) -> None:
    prepared = []

    def one(number: int) -> None:
        prepared.append((number, engine.steps))
        ask(stream)(1)

    stream.each("generate_until", one, list(range(12)))
    assert prepared == [(number, number // WINDOW) for number in range(12)]


def test_the_next_task_starts_in_the_tail_of_the_one_before(
    stream: Stream, engine: Engine, told: Told
) -> None:
    scored = []

    def task(name: str, lengths: list[int]) -> tuple[str, Callable[[], None]]:
        def run() -> None:
            stream.each("generate_until", ask(stream), lengths)
            scored.append((name, engine.steps))

        return name, run

    stream.run([task("long", [10]), task("short", [1, 1, 1])])
    assert scored == [("short", 1), ("long", 10)]
    assert told.words == ["long", "1:", "1"]
    assert told.beats == 10


def test_progress_is_of_the_task_that_waits_longest(stream: Stream, told: Told) -> None:
    def task(lengths: list[int]) -> Callable[[], None]:
        return lambda: stream.each("generate_until", ask(stream), lengths) and None

    stream.run([("first", task([5, 1])), ("second", task([1, 9]))])
    assert told.words == ["first", "2:", "1", "1", "second", "2:", "1", "1"]


def test_a_request_may_ask_several_questions(stream: Stream, engine: Engine) -> None:
    def rolling(lengths: list[int]) -> int:
        read = lambda output: Answer(0, (), (), (), "stop")  # noqa: E731
        return len(stream.ask([Question(steps, PARAMS, "score", read) for steps in lengths]))

    assert stream.each("loglikelihood_rolling", rolling, [[3, 1, 2], [2]]) == [3, 1]
    assert engine.steps == 3


def test_a_prompt_that_is_too_long_is_answered_with_nothing(stream: Stream) -> None:
    answers = stream.each("generate_until", ask(stream), [1, 101, 2])
    assert [(a.text, a.finish_reason) for a in answers] == [
        ("after 1", "stop"),
        ("", TOO_LONG),
        ("after 2", "stop"),
    ]


def test_what_does_not_fit_is_not_asked(stream: Stream, engine: Engine) -> None:
    def asked(steps: int) -> Answer:
        whole = Answer(0, (), (), (), "stop")
        (answer,) = stream.ask([Question(steps, PARAMS, "score", lambda _: whole, fits=steps < 3)])
        return answer

    answers = stream.each("loglikelihood", asked, [1, 3, 2])
    assert [answer.finish_reason for answer in answers] == ["stop", TOO_LONG, "stop"]
    assert stream.tally.asked == 2


@pytest.mark.parametrize(
    ("prompt", "error", "raised"),
    [
        ({"multi_modal_data": {}}, AssertionError("no placeholder"), PromptError),
        ({"multi_modal_data": {}}, RuntimeError("the engine died"), RuntimeError),
        ({"prompt_token_ids": []}, ValueError("no tokens"), ValueError),
    ],
)
def test_a_prompt_whose_images_are_refused_is_told_from_a_broken_engine(
    prompt: dict[str, Any], error: Exception, raised: type[Exception]
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> list[str]:
        raise error

    question = Question(prompt, PARAMS, "generate", lambda output: Answer(0, (), (), (), "stop"))
    with pytest.raises(raised, match=str(error)):
        enqueue(SimpleNamespace(enqueue=refuse), question)  # type: ignore[arg-type]


def test_what_is_in_flight_is_aborted_when_something_breaks(stream: Stream, engine: Engine) -> None:
    engine.break_at = 2
    with pytest.raises(RuntimeError, match="the engine died"):
        stream.each("generate_until", ask(stream), [1, 3, 9, 9, 9])
    assert engine.aborted == ["2-internal", "3-internal", "4-internal", "5-internal"]
    engine.break_at, engine.left = -1, {}
    assert [a.text for a in stream.each("x", ask(stream), [1, 1])] == ["after 1"] * 2


def test_an_error_in_a_request_ends_the_run_and_unwinds_the_others(
    stream: Stream, engine: Engine
) -> None:
    unwound = []

    def one(number: int) -> None:
        try:
            ask(stream)(number)
            if number == 1:
                raise OSError("image file is truncated")
        finally:
            unwound.append(number)

    with pytest.raises(OSError, match="truncated"):
        stream.each("generate_until", one, [1, 5, 6])
    assert sorted(unwound) == [1, 5, 6]
    assert engine.aborted == ["2-internal", "3-internal"]


def test_the_tally_tells_the_time_inside_steps_from_that_with_requests_queued(
    stream: Stream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, step = [0.0], engine.step
    monkeypatch.setattr(
        "runner.runtimes.vllm.stream.time", SimpleNamespace(monotonic=lambda: now[0])
    )

    def two_seconds() -> list[Any]:
        now[0] += 2.0
        return step()

    def one_second(number: int) -> Answer:
        now[0] += 1.0  # tokenised, with the engine standing still
        return ask(stream)(number)

    monkeypatch.setattr(engine, "step", two_seconds)
    stream.each("generate_until", one_second, [3, 2, 1, 1, 1])
    tally = stream.tally
    assert (tally.steps, tally.asked, tally.resumed) == (3, 5, 0)
    # The first second is before anything is in flight.
    assert (tally.stepping_s, tally.queued_s, tally.phase_s) == (6.0, 10.0, 11.0)


def test_whether_an_engine_steps_in_this_process() -> None:
    inside = SimpleNamespace(engine_core=SimpleNamespace(engine_core=object()))
    apart = SimpleNamespace(engine_core=SimpleNamespace(resources=object()))
    assert steps_in_this_process(cast(Any, SimpleNamespace(llm_engine=inside)))
    assert not steps_in_this_process(cast(Any, SimpleNamespace(llm_engine=apart)))


def test_a_task_is_charged_for_its_share_of_the_engine(stream: Stream, engine: Engine) -> None:
    import time

    spent = {}
    step = engine.step

    def slow() -> list[Any]:
        time.sleep(0.01)
        return step()

    engine.step = slow  # type: ignore[method-assign]

    def task(name: str, lengths: list[int]) -> tuple[str, Callable[[], None]]:
        def run() -> None:
            stream.each("generate_until", ask(stream), lengths)
            spent[name] = stream.spent()

        return name, run

    began = time.monotonic()
    stream.run([task("three", [10, 10, 10]), task("one", [10])])
    whole = time.monotonic() - began
    assert spent["three"] == pytest.approx(3 * spent["one"], rel=0.2)
    assert sum(spent.values()) == pytest.approx(whole, rel=0.1)
