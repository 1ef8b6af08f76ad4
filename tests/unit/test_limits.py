"""When a run is given up: each limit has its own clock, and none runs where it has no right to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.channel.worker import (
    EngineStarted,
    Heartbeat,
    Progress,
    RequestsFinished,
    Stage,
    StageBegun,
    TaskFinished,
)
from runner.config.schema import LimitsConfig, RunConfig
from runner.errors import UserError
from runner.supervision import limits
from runner.supervision.limits import Watch

START = EngineStarted({})
FINISHED = RequestsFinished("mmmu_val", steps=9)


def asked(done: int) -> Progress:
    return Progress("mmmu_val", 1, 1, done, total=240)


class Clock:
    """Stands for the module `time`; its wall clock jumps wherever a test wants."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(limits, "time", stopped)
    return stopped


def watch(clock: Clock, **seconds: float) -> Watch:
    return Watch(LimitsConfig(**seconds), run_began=clock.now)


def reason(watched: Watch) -> str:
    failure = watched.broken()
    assert failure is not None
    return failure.reason


def test_a_start_that_takes_too_long(clock: Clock) -> None:
    watched = watch(clock, start_s=60)
    clock.now += 5
    watched.see(StageBegun(Stage.STARTING_ENGINE))
    clock.now += 55
    assert watched.broken() is None
    clock.now += 1
    assert reason(watched) == (
        "the engine was not ready within limits.start_s=60 seconds; last activity 56 s before: "
        "starting engine"
    )


def test_an_engine_that_is_ready_in_time_has_no_such_limit(clock: Clock) -> None:
    watched = watch(clock, start_s=60)
    watched.see(START)
    clock.now += 3600
    assert watched.broken() is None


def test_an_engine_that_owes_answers_and_makes_no_step(clock: Clock) -> None:
    watched = watch(clock, stall_s=30)
    for event in (START, asked(0), asked(37), Heartbeat(1234)):
        watched.see(event)
        clock.now += 30
        assert watched.broken() is None
    clock.now += 1
    assert reason(watched) == (
        "the engine produced no token within limits.stall_s=30 seconds; last activity 31 s before: "
        "evaluating mmmu_val, 37 of 240 requests answered, engine step 1234"
    )


def test_scoring_is_no_stall_and_the_next_requests_may_be_one(clock: Clock) -> None:
    watched = watch(clock, stall_s=30)
    for event in (START, asked(0), asked(240), FINISHED):
        watched.see(event)
    clock.now += 3600
    assert watched.broken() is None
    watched.see(TaskFinished("mmmu_val", 3.0))
    clock.now += 3600
    assert watched.broken() is None
    watched.see(asked(0))
    clock.now += 31
    assert "limits.stall_s=30" in reason(watched)


def test_an_engine_that_lost_a_process_has_less_time(clock: Clock) -> None:
    watched = watch(clock, stall_s=900)
    for event in (START, asked(37), Heartbeat(12)):
        watched.see(event)
    watched.lose("VLLM::EngineCore, pid 8634")
    clock.now += 60
    assert watched.broken() is None
    watched.see(Heartbeat(13))
    clock.now += 60
    assert watched.broken() is None
    clock.now += 1
    assert reason(watched) == (
        "an engine process died (VLLM::EngineCore, pid 8634), and the engine made no further "
        "step; last activity 61 s before: evaluating mmmu_val, 37 of 240 requests answered, "
        "engine step 13"
    )


def test_a_helper_may_end_while_nothing_is_asked(clock: Clock) -> None:
    watched = watch(clock, stall_s=900)
    for event in (START, asked(240), FINISHED):
        watched.see(event)
    watched.lose("pid 1")
    clock.now += 3600
    assert watched.broken() is None


def test_a_run_is_limited_whatever_it_does_and_all_attempts_count(clock: Clock) -> None:
    began = clock.now
    clock.now += 50
    again = Watch(LimitsConfig(run_s=60), run_began=began)
    again.see(START)
    again.see(FINISHED)
    clock.now += 11
    assert reason(again) == (
        "the run did not finish within limits.run_s=60 seconds; last activity 11 s before: scoring "
        "mmmu_val"
    )


def test_without_limits_nothing_is_ever_late(clock: Clock) -> None:
    watched = watch(clock)
    watched.see(asked(0))
    clock.now += 1e9
    assert watched.broken() is None


@pytest.mark.parametrize(
    "wrong",
    [
        "limits.start_s=0",
        "limits.stall_s=-1",
        "limits.run_s=.inf",
        "limits.retries=-1",
        "limits.retries=1.5",
        "limits.stall_s=soon",
    ],
)
def test_a_limit_that_means_nothing_is_refused(
    compose: Callable[..., RunConfig], wrong: str
) -> None:
    with pytest.raises(UserError) as refused:
        compose(wrong)
    assert wrong.partition("=")[0] in str(refused.value)


def test_the_usual_limits_and_none(compose: Callable[..., RunConfig]) -> None:
    assert compose().limits == LimitsConfig(start_s=3600, stall_s=900, run_s=None, retries=1)
    assert compose("limits=none").limits == LimitsConfig()
