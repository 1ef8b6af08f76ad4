"""Time to first token and tokens/s of a run's requests, as its client measures them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema import RunConfig
from runner.outcome import Outcome, State
from runner.report.serving import serving
from runner.runtimes.server import streaming
from runner.runtimes.server.answers import read
from runner.runtimes.server.client import Client
from runner.runtimes.server.endpoint import COMPLETIONS, Endpoint
from runner.runtimes.server.exchanged import Exchanged
from runner.runtimes.server.retries import Patience
from runner.runtimes.server.streaming import FirstTokens, copied, has_token
from runner.served import FirstToken, Served, Speed
from runner.tracking.metrics import metrics
from runner.verdict import judge
from tests.misbehaving_server import KEY, MisbehavingServer

BODY: dict[str, Any] = {
    "model": "made-up",
    "prompt": [1, 2, 3],
    "max_tokens": 64,
    "min_tokens": 8,
    "logprobs": 2,
    "temperature": 0.0,
    "cache_salt": "the run's",
}


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    running = MisbehavingServer().start()
    yield running
    running.stop()


def timed(server: MisbehavingServer, requests: int, body: dict[str, Any] = BODY) -> FirstTokens:
    endpoint = Endpoint(server.url, api_key=KEY)
    client = Client(endpoint, connections=4, patience=Patience(), note=lambda failure: None)
    found = FirstTokens()

    async def each() -> None:
        for _ in range(requests):
            await found.time(client, endpoint.api(COMPLETIONS), body)

    client.start(each()).result()
    client.close()
    return found


@pytest.mark.parametrize(("requests", "copies"), [(1, 1), (4, 1), (5, 2), (30, 7), (600, 21)])
def test_a_sample_of_the_requests_is_timed(
    server: MisbehavingServer, requests: int, copies: int
) -> None:
    found = timed(server, requests)
    assert len(found.seconds) == len(server.streamed) == copies
    assert all(each > 0 for each in found.seconds)
    assert server.requests.total() == 0  # what is evaluated is asked elsewhere


def test_a_copy_is_one_token_that_shares_no_cache(server: MisbehavingServer) -> None:
    timed(server, 1)
    (body,) = server.streamed
    assert body.pop("cache_salt") != BODY["cache_salt"]
    assert body == {
        "model": "made-up",
        "prompt": [1, 2, 3],
        "temperature": 0.0,
        "max_tokens": 1,
        "stream": True,
    }
    assert "cache_salt" not in copied({"prompt": "a"})  # only vLLM has one


def test_texts_to_be_scored_have_no_first_token(server: MisbehavingServer) -> None:
    assert len(timed(server, 8, {**BODY, "prompt_logprobs": 1}).seconds) == 0
    assert server.streamed == []


def test_a_server_that_does_not_stream_is_not_timed(server: MisbehavingServer) -> None:
    server.stream = b'{"choices": [{"text": "all of it", "finish_reason": "stop"}]}'
    assert len(timed(server, 8).seconds) == 0


def test_a_stream_that_never_begins_costs_one_wait(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PATIENCE_S", 0.2)
    server.stream = None
    assert len(timed(server, 40).seconds) == 0
    assert len(server.streamed) == 1


def test_a_server_that_is_gone_costs_one_attempt() -> None:
    server = MisbehavingServer().start()
    server.stop()
    assert len(timed(server, 40).seconds) == 0


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"choices": [{"text": "a", "finish_reason": None}]}, True),
        ({"choices": [{"text": "", "finish_reason": None}]}, False),
        ({"choices": [{"text": "", "finish_reason": "stop"}]}, True),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "a"}}]}, True),
        ({"choices": [{"delta": {}, "finish_reason": "length"}]}, True),
        ({"choices": [], "usage": {"prompt_tokens": 3}}, False),
        ({"error": {"message": "no"}}, False),
        ([], False),
        ("a", False),
    ],
)
def test_which_events_bring_a_token(event: Any, expected: bool) -> None:
    assert has_token(event) is expected


@pytest.mark.parametrize(
    ("answer", "seconds", "expected"),
    [
        ({"token_ids": [1, 2, 3, 4]}, 2.0, [2.0]),
        ({"token_ids": [1]}, 2.0, []),  # the prompt takes most of the time
        ({}, 4.0, [0.5]),  # the server tells the number alone
    ],
)
def test_tokens_per_second_of_a_request(
    answer: dict[str, Any], seconds: float, expected: list[float]
) -> None:
    choice = {"text": "a b", "finish_reason": "stop", **answer}
    output = read(
        {"choices": [choice], "usage": {"completion_tokens": 2}}, "1", chat=False, detokenize=True
    )
    exchanged = Exchanged()
    exchanged.took(replace(output, seconds=seconds))
    assert list(exchanged.speeds) == expected
    assert list(exchanged.seconds) == [seconds]


def test_reports_and_mlflow_have_them(outcome: Outcome) -> None:
    served = Served("0.32.0", "canary", None, "", asked=600, answered=600)
    timing = replace(
        served, first_token=FirstToken(0.1, 0.25, 16), speed=Speed(p50=33.25, p10=12.0, p1=5.5)
    )
    said = dict(serving(timing))
    assert said["First token"] == (
        "median 0.1 s, 90 % within 0.25 s (streamed copies of 16 requests)"
    )
    assert said["Tokens/s of a request"] == "median 33.2, 90 % at least 12, 99 % at least 5.5"
    verdict = judge(outcome, (), RunConfig().verdict)
    found = metrics(Outcome(State.COMPLETED, served=timing), verdict)
    assert found["perf/first_token_p90_s"] == 0.25
    assert found["perf/request_tokens_per_s_p50"] == 33.25
    assert found["perf/request_tokens_per_s_p1"] == 5.5
    assert not {"First token", "Tokens/s of a request"} & dict(serving(served)).keys()
