"""Keeps the engine full: a window of requests in flight, refilled as their answers come.

Each lm-eval task, and each of its requests, runs in a coroutine (greenlet) of its own, so that
lm-eval's code stays as it is: where it would wait for the engine, the next one gets its turn. A
request is prepared (text tokenised, images opened) when it enters the window, and dropped when it
is answered; a task is built when the window has room for its first request, and scored while the
next one's requests are in flight.
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
from runner.lm.engine import Engine, Question, enqueue, public_id, refused
from runner.lm.remaining import Clock, Queue

if TYPE_CHECKING:
    from runner.lm.journal import Journal


@dataclass
class Tally:
    """What feeding the engine took: its steps, the requests it was asked, and seconds.

    `phase_s` is the time in which requests waited for answers, `queued_s` the part of it in which
    the engine had been given some, `stepping_s` the part spent inside its `step()`. `resumed`
    requests had been answered in an earlier attempt.
    """

    steps: int = 0
    asked: int = 0
    resumed: int = 0
    phase_s: float = 0.0
    queued_s: float = 0.0
    stepping_s: float = 0.0


class _Task(greenlet):
    """A task's coroutine, and the seconds that it and its requests took."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        super().__init__(function)
        self.name = name
        self.seconds = 0.0


@dataclass
class _Batch:
    """Requests that a task waits for; `steps` are those that each finished one took."""

    task: _Task
    kind: str
    function: Callable[[Any], Any]
    items: deque[tuple[int, Any]]
    results: list[Any]
    steps: list[int] = field(default_factory=list)
    tokens: int = 0

    @property
    def done(self) -> int:
        return len(self.steps)


class _Request(greenlet):
    """A request's coroutine; `since` is the engine's step at which it began."""

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
    """A question that the engine is at."""

    request: _Request
    place: int
    question: Question
    key: Hashable
    engine_id: str
    since: float


class Stream:
    """The way of all requests to one engine."""

    def __init__(self, engine: Engine, progress: Progress, window: int = 1) -> None:
        """`window` is the number of questions in flight; a request with many may exceed it."""
        self.engine = engine
        self.progress = progress
        self.window = window
        self.journal: Journal | None = None
        self.tally = Tally()
        self._clear()

    def run(self, tasks: Iterable[Named], chunk: int | None = None) -> None:
        """Run tasks to their end, each called by its name.

        With `chunk`, requests go in chunks of that size: the next one when all are answered.
        """
        self._clear(chunk)
        self._tasks.extend(tasks)
        try:
            while self._fill():
                self._step()
        finally:
            self._abandon()

    def each(self, kind: str, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """`function` of every item, side by side; for a task. The function asks with `ask`."""
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
        """The answers to all of them; for a function that was given to `each`."""
        request = getcurrent()
        assert isinstance(request, _Request), "only a request's own function can ask"
        request.answers = [refused()] * len(questions)
        for place, question in enumerate(questions):
            if not question.fits:
                continue
            key, known = self.journal.take(question) if self.journal is not None else (None, None)
            if known is not None:
                self.tally.resumed += 1
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
        """All that the calling request has asked so far."""
        request = getcurrent()
        return request.asked if isinstance(request, _Request) else []

    def spent(self) -> float:
        """Seconds that the calling task has taken: its own, and its share of the engine's."""
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
        """Let in what there is room for; whether anything is in flight then."""
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
        self.progress.beat(self._seconds_left)
        now = time.monotonic()
        answered: list[tuple[_Flight, Answer]] = []
        for output in outputs:
            if output.finished:
                flight = self._flying.pop(output.request_id)
                self._flights_of[flight.request.task] -= 1
                answer = flight.question.read(output)
                answered.append((flight, replace(answer, seconds=now - flight.since)))
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
        """Give a task or request its turn, until it waits or ends."""
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
        if steps:  # else an earlier attempt has answered it
            batch.tokens += max((len(each.token_ids) for each in request.answers), default=0)
        if batch is self._announced:
            self.progress.advance(1)
        if batch.done == len(batch.results):
            self._charge()
            self._batches.remove(batch)
            self._work(batch.task)

    def _work(self, task: _Task) -> None:
        """A task's own work, building requests or scoring answers: no sign of the engine's life."""
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
        """Until all requests of the batch that is shown are answered."""
        batch = self._announced
        flights = [each for each in self._flying.values() if each.request.batch is batch]
        if batch is None or not flights:
            return None
        # Several steps make a token where requests wait in the engine, or it is a pipeline.
        steps_per_token = sum(batch.steps) / max(batch.tokens, 1)
        most_tokens = max(each.question.params.max_tokens for each in flights)
        queue = Queue(
            finished=batch.steps,
            ages=[self.tally.steps - each.since for each in {f.request for f in flights}],
            waiting=len(batch.items),
            window=self._chunk or self.window,
            longest=steps_per_token * most_tokens,
            in_chunks=self._chunk is not None,
        )
        return self._clock.seconds_left(queue, self.tally.steps)

    def _charge(self) -> float:
        """Book the time since the last call, and return it: to the task at work, or to those in the
        engine by their requests there."""
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
        """After an error: the engine shall not go on with what nobody waits for."""
        if self._flying:
            with suppress(Exception):  # it may be dead, which is then what is on its way up
                self.engine.llm_engine.abort_request(
                    [flight.engine_id for flight in self._flying.values()], internal=True
                )
        for flow in [f.request for f in self._flying.values()] + [b.task for b in self._batches]:
            if not flow.dead:
                flow.throw()
