"""The checks of an endpoint before an evaluation: recorded, and never passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from runner.canary import WEIGHTS
from runner.config.schema import RunConfig
from runner.outcome import Outcome
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.report.serving import serving
from runner.runtimes.server.endpoint import Endpoint
from runner.runtimes.server.health import MOST, check_health
from runner.runtimes.server.probe.examining import ROUNDS
from runner.runtimes.server.probe.local import LocalModel, load
from runner.served import Check, Health, Served
from runner.status import Status
from runner.supervision.supervisor import _same_engine
from runner.verdict import judge
from tests.answering_server import Answer, AnsweringServer, Condition
from tests.misbehaving_server import KEY, MisbehavingServer, status

pytestmark = pytest.mark.slow

Compose = Callable[..., RunConfig]
Serve = Callable[..., AnsweringServer]
WINDOW = 8
SERVED = Served("0.32.0", "canary", "/weights", "", asked=600, answered=600)
HEALTHY = Health(Check(Status.PASSED, "same tokens"), Check(Status.PASSED, "own answers"), 100)


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return load(str(WEIGHTS))


@pytest.fixture
def serve(local: LocalModel) -> Iterator[Serve]:
    servers = []

    def started(**options: Any) -> AnsweringServer:
        servers.append(AnsweringServer(**{"model": local, **options}).start())
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


def checked(server: MisbehavingServer, **settings: Any) -> Health:
    found = check_health(Endpoint(server.url, "", KEY), {"window": WINDOW, **settings})
    assert found is not None
    return found


def judged(outcome: Outcome, plan: Plan, rule: Any, health: Health) -> Any:
    return judge(
        replace(outcome, served=replace(SERVED, health=health)), plan.evaluations, rule.verdict
    )


def test_a_healthy_server_is_recorded(
    serve: Serve, compose: Compose, plan: Plan, outcome: Outcome
) -> None:
    server = serve()
    found = checked(server)
    assert found.repeatability.status is found.crosstalk.status is Status.PASSED
    assert 1 < server.busiest <= WINDOW
    answered = server.requests["/v1/chat/completions"] + server.requests["/v1/completions"]
    assert found.requests < 100
    assert answered <= found.requests + 1  # one looks for images
    said = dict(serving(replace(SERVED, health=found)))
    assert said["Repeatability"] == "PASSED: same tokens, log-probabilities identical"
    assert said["Cross-talk"] == (
        "PASSED: 32 concurrent requests got their own answers; detects faults in 8.9 % of requests "
        "or more with 95 % probability"
    )
    assert judged(outcome, plan, compose(), found).status is Status.PASSED


def test_a_server_that_swaps_answers_never_passes(
    serve: Serve, compose: Compose, plan: Plan, outcome: Outcome
) -> None:
    found = checked(serve(stray=0.25))
    assert found.crosstalk.status is Status.FAILED
    verdict = judged(outcome, plan, compose(), found)
    assert verdict.status is Status.INCONCLUSIVE
    assert "the server failed the cross-talk check before the evaluation" in verdict.reason
    assert "of another request" in verdict.reason


def test_a_server_that_computes_differently_in_a_batch_never_passes(
    serve: Serve, compose: Compose, plan: Plan, outcome: Outcome
) -> None:
    def drift(condition: Condition, answer: Answer) -> None:
        if condition.busy:
            answer.logprobs = [each - 0.2 for each in answer.logprobs]

    found = checked(serve(fault=drift))
    assert found.repeatability.status is Status.FAILED
    verdict = judged(outcome, plan, compose(), found)
    assert verdict.status is Status.INCONCLUSIVE
    assert "failed the repeatability check" in verdict.reason
    assert "moved by 0.2 nats (median)" in verdict.reason


def test_what_cannot_be_told_is_only_recorded(
    serve: Serve, compose: Compose, plan: Plan, outcome: Outcome
) -> None:
    found = checked(serve(copies=False, words=0))  # all answers alike
    assert found.crosstalk.status is Status.INCONCLUSIVE
    assert dict(serving(replace(SERVED, health=found)))["Cross-talk"].startswith("INCONCLUSIVE: ")
    assert judged(outcome, plan, compose(), found).status is Status.PASSED


def test_a_run_that_judges_nothing_still_tells(outcome: Outcome, compose: Compose) -> None:
    swapped = replace(HEALTHY, crosstalk=Check(Status.FAILED, "3 of 32 answers wrong"))
    verdict = judge(replace(outcome, served=replace(SERVED, health=swapped)), (), compose().verdict)
    assert verdict.status is Status.UNJUDGED
    assert "3 of 32 answers wrong" in verdict.reason


def test_a_check_that_cannot_be_made_does_not_end_the_run(serve: Serve) -> None:
    server = serve()
    answer = server._generate

    async def fails_under_load(exchange: Any) -> None:
        if server.busiest > 2:
            await status(500, f"out of memory, said {KEY}")(exchange)
        else:
            await answer(exchange)

    server._generate = fails_under_load  # type: ignore[method-assign]
    found = checked(server)
    assert found.repeatability.status is found.crosstalk.status is Status.INCONCLUSIVE
    assert "not checked: " in found.crosstalk.reason
    assert "HTTP 500: out of memory" in found.crosstalk.reason
    assert KEY not in found.crosstalk.reason


@pytest.mark.parametrize(("window", "most"), [(1, 2), (1000, MOST)])
def test_the_concurrency_is_the_runs_within_limits(serve: Serve, window: int, most: int) -> None:
    server = serve(delay_s=0.02)
    health = checked(server, window=window)
    assert ("not checked: a full batch" in health.repeatability.reason) is (window == 1)
    found = health.crosstalk
    assert found.reason.startswith(f"{ROUNDS * most} concurrent requests got their own answers")
    assert 1 < server.busiest <= most


def test_the_checks_can_be_turned_off(serve: Serve) -> None:
    server = serve()
    assert check_health(Endpoint(server.url, "", KEY), {"probe": False}) is None
    assert server.requests.total() == 0
    assert "Repeatability" not in dict(serving(SERVED))


def test_the_setting_is_no_part_of_the_engine(compose: Compose, facts: Facts) -> None:
    def plan(*overrides: str) -> Plan:
        url = "engine.endpoint.url=http://a:1/v1"
        return make_plan(compose("engine=endpoint", url, *overrides), facts)

    usual, off = plan(), plan("engine.endpoint.probe=false")
    assert usual.engine_args["server"]["probe"] is True
    assert usual.engine_fingerprint == off.engine_fingerprint
    assert not _same_engine(usual, off)  # a worker that has not checked is not reused
