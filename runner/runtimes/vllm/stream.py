"""Keeps the engine full: a window of concurrent requests, refilled as their answers arrive.

Each lm-eval task, and each of its requests, runs in a coroutine (greenlet) of its own, so lm-eval's
code needs no changes: where it would wait for the engine, another coroutine continues. A request is
prepared (text tokenised, images opened) when it enters the window and dropped when it is answered.
A task is built when the window has room for its first request, and scored while the next task's
requests are in flight.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from runner.lm.answer import Answer
from runner.lm.answering import Named, Progress
from runner.runtimes.vllm.engine import (
    Engine,
    Question,
    enqueue,
    public_id,
    refused,
    unfinished_tokens,
)
from runner.runtimes.vllm.remaining import Clock, Queue

if TYPE_CHECKING:
    from runner.lm.journal import Journal


@dataclass
class Tally:
    """Counts engine steps, requests and seconds.

    `phase_s` is the time in which requests waited for answers, `queued_s` the part of it in which
    the engine had requests, and `stepping_s` the part spent inside its `step()`. `resumed` counts
    requests that an earlier attempt had answered.
    """

    steps: int = 0
    asked: int = 0
    resumed: int = 0
    phase_s: float = 0.0
    queued_s: float = 0.0
    stepping_s: float = 0.0


class _Task(greenlet):
    """A task's coroutine, and the seconds that the task and its requests have taken."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        super().__init__(function)
        self.name = name
        self.seconds = 0.0


@dataclass
class _Batch:
    """Requests that a task waits for; `steps` holds the engine steps of each finished one.

    `tokens` counts the tokens of the longest answer of each finished request, `made` all tokens
    that the engine generated for them.
    """

    task: _Task
    kind: str
    function: Callable[[Any], Any]
    items: deque[tuple[int, Any]]
    results: list[Any]
    steps: list[int] = field(default_factory=list)
    tokens: int = 0
    made: int = 0

    @property
    def done(self) -> int:
        return len(self.steps)


class _Request(greenlet):
    """A request's coroutine; `since` is the engine step at which it started."""

    def __init__(self, batch: _Batch, since: int) -> None:
        super().__init__(self._work)
        self.batch = batch
        self.since = since
        self.index, self._item = batch.items.popleft()
        self.answers: list[Answer] = []
        self.missing = 0
        self.asked: list[tuple[Question, Answer]] = []

    @property
    def task(self) -> _Task:
        return self.batch.task

    def _work(self) -> None:
        self.batch.results[self.index] = self.batch.function(self._item)


@dataclass
class _Flight:
    """A question that the engine is working on."""

    request: _Request
    place: int
    question: Question
    key: Hashable
    engine_id: str
    since: float


class Stream:
    """Sends all requests to one engine."""

    def __init__(self, engine: Engine, progress: Progress, window: int = 1) -> None:
        """Set the number of questions in flight; one request with many questions may exceed it."""
        self.engine = engine
        self.progress = progress
        self.window = window
        self.journal: Journal | None = None
        # Gets each answer that an earlier attempt has left.
        self.taken_over: Callable[[Answer], None] = lambda answer: None
        self.tally = Tally()
        self._clear()

    def run(self, tasks: Iterable[Named], chunk: int | None = None) -> None:
        """Run tasks to completion. Each is a name and a function.

        With `chunk`, requests are sent in chunks of that size, and the next chunk starts when all
        requests of the last one are answered.
        """
        self._clear(chunk)
        self._tasks.extend(tasks)
        try:
            while self._fill():
                self._step()
        finally:
            self._abandon()

    def each(self, kind: str, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Results of `function` for every item, run concurrently; called by a task.

        The function sends its questions with `ask`.
        """
        task = getcurrent()
        results: list[Any] = [None] * len(items)
        if not isinstance(task, _Task):
            self.run([(kind, lambda: results.extend(self.each(kind, function, items)))])
            return results[len(items) :]
        if items:
            self._batches.append(_Batch(task, kind, function, deque(enumerate(items)), results))
            self._hub.switch()
        return results

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers to all questions; called by a function that was given to `each`."""
        request = getcurrent()
        assert isinstance(request, _Request), "only a request's own function can ask"
        request.answers = [refused()] * len(questions)
        for place, question in enumerate(questions):
            if not question.fits:
                continue
            key, known = self.journal.take(question) if self.journal is not None else (None, None)
            if known is not None:
                self.tally.resumed += 1
                self.taken_over(known)
                request.answers[place] = known
                continue
            self.tally.asked += 1
            engine_id = enqueue(self.engine, question)
            if engine_id is not None:
                flight = _Flight(request, place, question, key, engine_id, time.monotonic())
                self._flying[public_id(engine_id)] = flight
                self._flights_of[request.task] += 1
                request.missing += 1
        if request.missing:
            self._hub.switch()
        request.asked += zip(questions, request.answers, strict=True)
        return request.answers

    def asked(self) -> list[tuple[Question, Answer]]:
        """All questions that the calling request has asked so far, with their answers."""
        request = getcurrent()
        return request.asked if isinstance(request, _Request) else []

    def spent(self) -> float:
        """Seconds that the calling task has taken, including its share of the engine's time."""
        task = getcurrent()
        self._charge()
        return task.seconds if isinstance(task, _Task) else 0.0

    def _clear(self, chunk: int | None = None) -> None:
        self._hub = getcurrent()
        self._tasks: deque[Named] = deque()
        self._chunk = chunk
        self._batches: deque[_Batch] = deque()
        self._announced: _Batch | None = None
        self._clock = Clock()
        self._flying: dict[str, _Flight] = {}
        self._flights_of: Counter[_Task] = Counter()
        self._running: _Task | None = None
        self._mark = time.monotonic()
        self._in_phase = self._queued = False

    def _fill(self) -> bool:
        """Start requests and tasks while there is room. Returns whether anything is in flight."""
        drain = self._chunk is not None and bool(self._flying)
        while not drain and len(self._flying) < (self._chunk or self.window):
            batch = next((each for each in self._batches if each.items), None)
            if batch is not None:
                self._continue(_Request(batch, self.tally.steps))
            elif self._tasks and not (self._chunk and self._flying):
                self._work(_Task(*self._tasks.popleft()))
            else:
                break
        return bool(self._flying)

    def _step(self) -> None:
        self._charge()
        outputs = self.engine.llm_engine.step()
        self.tally.steps += 1
        self.tally.stepping_s += self._charge()
        self.progress.beat(self._seconds_left, self._generated)
        now = time.monotonic()
        answered: list[tuple[_Flight, Answer]] = []
        for output in outputs:
            if output.finished:
                flight = self._flying.pop(output.request_id)
                self._flights_of[flight.request.task] -= 1
                seconds = getattr(output, "seconds", now - flight.since)  # a server's has them
                source = getattr(output, "source", None)
                answer = replace(flight.question.read(output), seconds=seconds, source=source)
                answered.append((flight, answer))
        if self.journal is not None:
            for flight, answer in answered:
                self.journal.keep(flight.key, answer)
            self.journal.flush()
        for flight, answer in answered:
            request = flight.request
            request.answers[flight.place] = answer
            request.missing -= 1
            if not request.missing:
                self._continue(request)

    def _continue(self, flow: _Task | _Request) -> None:
        """Resume a task or request until it waits again or ends."""
        self._charge()
        self._running = flow.task if isinstance(flow, _Request) else flow
        flow.switch()
        self._charge()
        self._running = None
        if isinstance(flow, _Request) and flow.dead:
            self._answered(flow)

    def _answered(self, request: _Request) -> None:
        batch, steps = request.batch, self.tally.steps - request.since
        batch.steps.append(steps)
        if steps:  # otherwise an earlier attempt answered it
            lengths = [len(each.token_ids) for each in request.answers]
            batch.tokens += max(lengths, default=0)
            batch.made += sum(lengths)
        if batch is self._announced:
            self.progress.advance(1)
        if batch.done == len(batch.results):
            self._charge()
            self._batches.remove(batch)
            self._work(batch.task)

    def _work(self, task: _Task) -> None:
        """Let a task do its own work: building requests or scoring answers. Not an engine step."""
        if self._announced is not None:
            self.progress.end()
        self._continue(task)
        first = self._batches[0] if self._batches else None
        if first is not None and first is self._announced:
            self.progress.advance(0)
        elif first is not None:
            self._announced = first
            self.progress.enter(first.task.name)
            self.progress.begin(first.kind, len(first.results))
            self.progress.advance(first.done)

    def _seconds_left(self) -> float | None:
        """Seconds until all requests of the batch in the progress display are answered."""
        batch = self._announced
        flights = [each for each in self._flying.values() if each.request.batch is batch]
        if batch is None or not flights:
            return None
        # A token takes several steps if requests wait inside the engine, or with pipeline
        # parallelism.
        steps_per_token = sum(batch.steps) / max(batch.tokens, 1)
        most_tokens = max(each.question.params.max_tokens for each in flights)
        queue = Queue(
            finished=batch.steps,
            ages=[
                self.tally.steps - each.since for each in dict.fromkeys(f.request for f in flights)
            ],
            waiting=len(batch.items),
            window=self._chunk or self.window,
            longest=steps_per_token * most_tokens,
            in_chunks=self._chunk is not None,
        )
        return self._clock.seconds_left(queue, self.tally.steps)

    def _generated(self) -> int | None:
        """Tokens generated for the batch in the progress display; None if the engine can't tell."""
        if self._announced is None or not self._announced.kind.startswith("generate"):
            return None
        running = unfinished_tokens(self.engine)
        return None if running is None else self._announced.made + running

    def _charge(self) -> float:
        """Record the time since the last call, and return it.

        It counts for the task that is running; otherwise it is divided among the tasks in
        proportion to their requests in the engine.
        """
        now = time.monotonic()
        spent, self._mark = now - self._mark, now
        if self._running is not None:
            self._running.seconds += spent
        else:
            for task, flights in self._flights_of.items():
                task.seconds += spent * flights / max(len(self._flying), 1)
        self.tally.phase_s += spent if self._in_phase else 0.0
        self.tally.queued_s += spent if self._queued else 0.0
        self._in_phase, self._queued = bool(self._batches), bool(self._flying)
        return spent

    def _abandon(self) -> None:
        """Clean up after an error: abort requests in the engine and end all coroutines."""
        if self._flying:
            with suppress(Exception):  # if the engine is dead, that error is already being raised
                self.engine.llm_engine.abort_request(
                    [flight.engine_id for flight in self._flying.values()], internal=True
                )
        for flow in [f.request for f in self._flying.values()] + [b.task for b in self._batches]:
            if not flow.dead:
                flow.throw()
