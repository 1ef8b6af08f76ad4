"""Answers that a server gave with doubts, or without what other servers tell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.errors import UserError
from runner.lm.answer import Answer, Source
from runner.lm.journal import Journal
from runner.runtimes.server import pulse
from runner.runtimes.server.endpoint import Endpoint, ServerError
from runner.runtimes.server.engine import ServedEngine
from runner.runtimes.server.launch import server_environment
from runner.runtimes.server.pulse import TOKENS, Pulse
from runner.runtimes.server.server import check_unchanged, server_facts
from runner.runtimes.vllm.engine import Question, generated
from runner.runtimes.vllm.stream import Stream
from runner.served import Served
from tests.misbehaving_server import KEY, MODEL, Exchange, MisbehavingServer, changed, status
from tests.unit.test_served_engine import GREEDY, connected, receive, send
from tests.unit.test_stream import Told


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer().start()
    yield server
    server.stop()


@pytest.fixture
def engine(server: MisbehavingServer) -> Iterator[ServedEngine]:
    engine = connected(server)
    yield engine
    engine.close()


def answered(server: MisbehavingServer, directory: Path, count: int) -> ServedEngine:
    """An engine after a run of `count` questions that goes on where earlier ones were stopped."""
    engine = connected(server)
    stream = Stream(engine, Told(), window=4)
    stream.journal = Journal(directory, directory / "run", 2**20, pytest.fail)
    stream.taken_over = engine.exchanged.taken_over

    def ask(number: int) -> list[Answer]:
        prompt = {"prompt_token_ids": [number, number + 100, 7]}
        return stream.ask([Question(prompt, GREEDY, "generate", generated)])

    stream.each("generate", ask, range(count))
    stream.journal.close(completed=False)
    engine.close()
    return engine


def test_answers_of_two_servers_are_those_of_two_engines_after_an_interruption(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    server.always = changed(system_fingerprint="tp1")
    first = answered(server, tmp_path, 3).exchanged
    assert (first.answered, first.served) == (3, {(MODEL, "tp1"): 3})
    server.always = changed(system_fingerprint="tp2")
    both = answered(server, tmp_path, 5).exchanged
    assert (both.answered, both.served) == (2, {(MODEL, "tp1"): 3, (MODEL, "tp2"): 2})


def test_every_doubt_stays_with_its_answer(
    server: MisbehavingServer, engine: ServedEngine, tmp_path: Path
) -> None:
    source = Source(MODEL, "tp1", different="1 token", shortened=True, reasoned=True)
    question = Question({"prompt_token_ids": [1]}, GREEDY, "generate", generated)
    for _ in range(2):  # written, and read
        journal = Journal(tmp_path, tmp_path / "run", 2**20, pytest.fail)
        key, known = journal.take(question)
        if known is None:
            journal.keep(key, Answer(1, (2,), (-0.5,), (1.0,), "stop", source=source))
            journal.flush()
        journal.close(completed=False)
    assert known is not None and known.source == source
    engine.exchanged.taken_over(known)
    found = engine.exchanged
    assert (found.different, found.first_difference) == (1, "1 token")
    assert (found.shortened, found.reasoned, found.unverified) == (1, 1, 0)


def test_a_log_probability_of_null_is_not_a_number(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    async def null(exchange: Exchange) -> None:
        answer = exchange.answer()
        told = answer["choices"][0]["logprobs"]
        told["token_logprobs"][0] = told["top_logprobs"][0]["token_id:2"] = None
        await changed(choices=answer["choices"])(exchange)

    server.faults.append(null)
    name = send(engine, [1, 2])
    first, second = generated(receive(engine, 1)[name]).logprobs
    assert math.isnan(first) and second == -0.5


def test_an_answer_needs_no_id(server: MisbehavingServer, engine: ServedEngine) -> None:
    server.always = changed(id=None)
    name = send(engine, [1, 2])
    assert receive(engine, 1)[name].outputs[0].token_ids == [2, 1]


def test_once_ids_are_echoed_one_without_is_not_believed(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    receive(engine, len([send(engine, [1, 2])]))
    server.faults.append(changed(id=None))
    receive(engine, len([send(engine, [3, 4])]))
    assert engine.exchanged.retried == {"wrong id": 1}


def test_a_server_that_tells_only_the_number_of_a_prompts_tokens(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    async def counted(exchange: Exchange) -> None:
        (choice,) = exchange.answer()["choices"]
        choice.pop("prompt_token_ids", None)
        await changed(choices=[choice], usage={"prompt_tokens": 9})(exchange)

    server.faults.append(counted)
    output = receive(engine, len([send(engine, [1, 2])]))["1"]
    assert generated(output).prompt_tokens == 9
    assert engine.exchanged.unverified == 1


def test_a_prompt_that_is_too_long_has_no_latency(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    words = "This model's maximum context length is 64 tokens"
    server.faults.append(status(400, words))
    receive(engine, len([send(engine, [1, 2])]))
    assert len(engine.exchanged.seconds) == 0


@pytest.mark.parametrize(
    ("counters", "stalls"),
    [
        ([1.0, None, None], True),
        ([1.0, 1.0, None], True),
        ([None, None, None], False),
        ([1.0, None, 2.0], False),
    ],
)
def test_counters_that_vanish_are_no_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, counters: list[float | None], stalls: bool
) -> None:
    left = iter(counters)

    def read(endpoint: Endpoint) -> Any:
        tokens = next(left)
        return None if tokens is None else {TOKENS[0]: {"": tokens}}

    seconds = itertools.count(0, 20)
    monkeypatch.setattr(pulse, "server_counters", read)
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    watched = Pulse(Endpoint("http://a:1/v1"), 30)
    try:
        for _ in counters:
            watched.waited()
    except ServerError:
        assert stalls
    else:
        assert not stalls


@pytest.mark.parametrize("owner", ["openai", None])
def test_vllm_is_recognized_behind_a_proxy(server: MisbehavingServer, owner: str | None) -> None:
    server.owner, server.tells_tokens = owner, True
    assert server_facts(Endpoint(server.url, api_key=KEY)).vllm


def test_another_server_is_not_taken_for_vllm(server: MisbehavingServer) -> None:
    server.owner = "openai"
    server.always = status(400, "unknown field: return_token_ids")
    assert not server_facts(Endpoint(server.url, api_key=KEY)).vllm


def test_a_server_that_was_replaced_answers_no_other_run(server: MisbehavingServer) -> None:
    endpoint = Endpoint(server.url, api_key=KEY)
    facts = server_facts(endpoint)
    check_unchanged(endpoint, facts)
    model = replace(facts.model, root="/other")
    for then in (replace(facts, version="0.0.2"), replace(facts, model=model)):
        with pytest.raises(UserError, match=r"the server was replaced.* start this run again"):
            check_unchanged(endpoint, then)


def test_a_launched_server_gets_the_users_variables() -> None:
    variables = {"OMP_NUM_THREADS": "10", "HCCL_BUFFSIZE": "1024"}
    inside = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    assert server_environment({**variables, **inside}) == variables


def test_the_number_of_prompts_counts_those_of_earlier_attempts() -> None:
    served = Served("1", MODEL, None, "", 2, 2, different=3, answered_by={"m tp1": 5})
    assert "rendered 3 of 5 prompts" in served.doubts[0]
