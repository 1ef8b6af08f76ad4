"""An engine behind HTTP, and what it does when the server or the network misbehaves."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from PIL import Image

from runner.errors import UserError
from runner.lm.answer import TOO_LONG
from runner.runtimes.server.endpoint import Endpoint, ServerError
from runner.runtimes.server.engine import ServedEngine
from runner.runtimes.server.expected import Expected
from runner.runtimes.server.requests import Requests
from runner.runtimes.server.retries import Patience
from runner.runtimes.server.server import ServedModel, ServerFacts
from runner.runtimes.vllm.engine import Question, enqueue, generated, refused
from tests.misbehaving_server import (
    KEY,
    LONGEST,
    MODEL,
    Exchange,
    Fault,
    MisbehavingServer,
    Swapped,
    aborted,
    changed,
    never,
    reset,
    status,
    truncated,
)


class Params(msgspec.Struct):
    """The fields of vLLM's SamplingParams that matter here, with its defaults."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_reading_prefix_cache: bool | None = None
    extra_args: dict[str, Any] | None = None
    structured_outputs: Any = None
    output_kind: int = 0
    _eos_token_id: int | None = None


QUICK = Patience(attempts=4, stall_s=2.0, request_s=2.0, first_wait_s=0.01, longest_wait_s=0.05)
GREEDY = Params(temperature=0.0, logprobs=2)
TIMEOUT_S = 20


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer().start()
    yield server
    server.stop()


def connected(
    server: MisbehavingServer, *, model: str = MODEL, key: str = KEY, **options: Any
) -> ServedEngine:
    served = ServedModel(MODEL, max_model_len=LONGEST, owned_by=options.pop("owned_by", "vllm"))
    facts = ServerFacts(server.url, None, replace(served, id=model), (served,))
    facts = replace(facts, fields=options.pop("fields", {}))
    patience, stall_s = options.pop("patience", QUICK), options.pop("stall_s", math.inf)
    return ServedEngine(
        Endpoint(server.url, api_key=key, api_key_env="MY_KEY"),
        Requests(facts, **options),
        connections=8,
        patience=patience,
        stall_s=stall_s,
    )


@pytest.fixture
def engine(server: MisbehavingServer) -> Iterator[ServedEngine]:
    engine = connected(server)
    engine.step()  # from now on, requests are sent at once
    yield engine
    engine.close()


def send(engine: ServedEngine, prompt: Any, params: Params = GREEDY) -> str:
    if isinstance(prompt, list):
        prompt = {"prompt_token_ids": prompt}
    (name,) = engine.enqueue([prompt], params, lora_request=None, use_tqdm=False)
    return name


def receive(engine: ServedEngine, count: int) -> dict[str, Any]:
    """The outputs of `count` requests, by id."""
    found: dict[str, Any] = {}
    until = time.monotonic() + TIMEOUT_S
    while len(found) < count:
        assert time.monotonic() < until, "answers are missing"
        for output in engine.step():
            assert output.request_id not in found
            found[output.request_id] = output
    return found


def ask_many(engine: ServedEngine, count: int = 20) -> None:
    """Every answer belongs to its request, whatever happened on the way."""
    prompts = {send(engine, [number, number + 100, 7]): number for number in range(count)}
    for name, output in receive(engine, count).items():
        number = prompts[name]
        assert output.prompt_token_ids == [number, number + 100, 7]
        assert output.outputs[0].token_ids == [7, number + 100, number]
        assert output.outputs[0].text == f"7 {number + 100} {number}"


def test_answers_look_like_vllms(engine: ServedEngine) -> None:
    name = send(engine, [1, 2])
    answer = generated(receive(engine, 1)[name])
    assert answer.token_ids == (2, 1)
    assert answer.logprobs == (-0.5, -0.5)
    assert answer.margins == (1.0, 1.0)
    assert (answer.text, answer.finish_reason, answer.prompt_tokens) == ("2 1", "stop", 2)


def test_scores_have_the_candidates_of_each_token(engine: ServedEngine) -> None:
    name = send(engine, [4, 5, 6], Params(temperature=0.0, prompt_logprobs=1, detokenize=False))
    output = receive(engine, 1)[name]
    first, *others = output.prompt_logprobs
    assert first is None
    assert [{token: each.logprob for token, each in step.items()} for step in others] == [
        {5: -2.0},
        {6: -2.0},
    ]
    assert output.outputs[0].text == ""  # vLLM was told not to detokenise


def test_all_sampling_parameters_are_sent(server: MisbehavingServer, engine: ServedEngine) -> None:
    params = Params(
        temperature=0.7,
        top_k=5,
        seed=3,
        stop=["."],
        stop_token_ids=[9],
        ignore_eos=True,
        min_tokens=2,
        max_tokens=100,
        logprobs=2,
        extra_args={"trace": 1},
        skip_reading_prefix_cache=True,
    )
    send(engine, [1, 2], params)
    receive(engine, 1)
    (body,) = server.bodies
    del body["request_id"], body["cache_salt"]
    assert body == {
        "model": MODEL,
        "prompt": [1, 2],
        "temperature": 0.7,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_k": 5,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": 3,
        "stop": ["."],
        "stop_token_ids": [9],
        "ignore_eos": True,
        "min_tokens": 2,
        "max_tokens": LONGEST - 2,  # servers reject more than fits
        "logprobs": 2,
        "vllm_xargs": {"trace": 1},
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def test_a_parameter_that_cannot_be_sent_is_an_error(engine: ServedEngine) -> None:
    with pytest.raises(UserError, match="structured_outputs='x': cannot be sent"):
        send(engine, [1], Params(structured_outputs="x"))


def test_other_servers_get_no_parameters_of_vllms(server: MisbehavingServer) -> None:
    engine = connected(server, owned_by="somebody")
    send(engine, [1, 2])
    receive(engine, 1)
    assert set(server.bodies[0]) == {
        "model",
        "prompt",
        "max_tokens",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
    }
    engine.close()


def test_a_field_that_the_server_does_not_know_is_an_error(server: MisbehavingServer) -> None:
    engine = connected(server, owned_by="somebody", fields={"/completions": {"model", "prompt"}})
    with pytest.raises(UserError, match="does not read frequency_penalty, logprobs, max_tokens"):
        send(engine, [1, 2])
    engine.close()


def test_an_adapter_is_asked_by_its_name(server: MisbehavingServer, engine: ServedEngine) -> None:
    adapter = SimpleNamespace(lora_name="finetuned")
    server.always = changed()
    engine.enqueue([{"prompt_token_ids": [1]}], GREEDY, lora_request=adapter, use_tqdm=False)
    receive(engine, 1)
    assert server.bodies[0]["model"] == "finetuned"


def test_connections_are_few_and_kept(server: MisbehavingServer, engine: ServedEngine) -> None:
    threads = threading.active_count()
    server.delay_s = 0.3  # long enough for a busy machine to send all eight
    ask_many(engine, 32)
    assert 1 < server.largest <= 8
    assert server.connections <= 8
    assert threading.active_count() <= threads


def test_the_server_never_has_more_requests_than_its_window(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    engine.at_once(3)
    server.delay_s = 0.2
    ask_many(engine, 12)  # all are prepared at once
    assert 1 < server.largest <= 3
    assert min(engine.exchanged.seconds) >= 0.2


def test_waiting_for_the_window_is_no_latency(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    engine.at_once(1)
    server.delay_s = 0.3
    since = time.monotonic()
    names = [send(engine, [number]) for number in range(4)]
    outputs = receive(engine, 4)
    seconds = [outputs[name].seconds for name in names]
    assert sum(seconds) <= time.monotonic() - since  # one after the other
    assert min(seconds) >= 0.3


def test_a_step_returns_when_nothing_has_finished(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.delay_s = 30
    name = send(engine, [1])
    since = time.monotonic()
    assert engine.step() == []
    assert 0.5 < time.monotonic() - since < 3
    engine.abort_request([name], internal=True)


# Images

IMAGE = "What is <image> and <image>?"


def with_images(*images: Image.Image, text: str = IMAGE) -> dict[str, Any]:
    return {"prompt": f"rendered {text}", "multi_modal_data": {"image": list(images)}}


def seeing(server: MisbehavingServer, **options: Any) -> ServedEngine:
    def conversation(prompt: str) -> list[dict[str, Any]]:
        text = prompt.removeprefix("rendered ")
        return [{"role": "system", "content": "Look."}, {"role": "user", "content": text}]

    return connected(server, conversation=conversation, **options)


def test_images_are_sent_in_their_places(server: MisbehavingServer) -> None:
    engine = seeing(server, template_arguments={"enable_thinking": False})
    red, clear = Image.new("RGB", (4, 3), "red"), Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    name = send(engine, with_images(red, clear))
    answer = generated(receive(engine, 1)[name])
    assert len(answer.logprobs) == len(answer.token_ids) == 3
    (body,) = server.bodies
    system, user = body["messages"]
    assert system == {"role": "system", "content": [{"type": "text", "text": "Look."}]}
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    urls = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    shown = [
        Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
        for url in urls
    ]
    assert [(image.mode, image.size) for image in shown] == [("RGB", (4, 3)), ("RGB", (2, 2))]
    assert shown[0].getpixel((0, 0)) == (255, 0, 0)
    assert shown[1].getpixel((0, 0)) == (255, 255, 255)  # transparent, on white as in vLLM
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (True, False)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    engine.close()


def saying(**fields: Any) -> Fault:
    """The right answer with some fields of its message changed."""

    async def fault(exchange: Exchange) -> None:
        found = exchange.answer()
        (choice,) = found["choices"]
        choice.get("message", choice).update(fields)
        await exchange.send(200, json.dumps(found).encode())

    return fault


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_that_the_server_took_out_is_kept(server: MisbehavingServer, field: str) -> None:
    engine = seeing(server)
    server.faults += [
        saying(**{field: "Hm.", "content": "B"}),
        saying(**{field: "Hm.", "content": None}),
        saying(**{field: None, "content": "B"}),
    ]
    found = []
    for _ in range(3):
        name = send(engine, with_images(*[Image.new("RGB", (2, 2))] * 2))
        answer = generated(receive(engine, 1)[name])
        assert len(answer.token_ids) == 3  # with those of the reasoning
        found.append((answer.reasoning, answer.text))
    assert found == [("Hm.", "B"), ("Hm.", ""), ("", "B")]
    assert engine.exchanged.reasoned == 2
    engine.close()


def test_completions_have_no_reasoning(server: MisbehavingServer, engine: ServedEngine) -> None:
    server.always = saying(reasoning="Hm.")
    name = send(engine, [1, 2])
    answer = generated(receive(engine, 1)[name])
    assert (answer.reasoning, answer.text) == ("", "2 1")
    assert engine.exchanged.reasoned == 0


def test_a_started_reply_is_continued(server: MisbehavingServer) -> None:
    said = [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "It is"}]
    engine = connected(server, conversation=lambda prompt: said)
    send(engine, with_images(Image.new("RGB", (2, 2))))
    receive(engine, 1)
    (body,) = server.bodies
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    engine.close()


@pytest.mark.parametrize("images", [1, 3])
def test_images_without_a_place_are_an_error(server: MisbehavingServer, images: int) -> None:
    engine = seeing(server)
    with pytest.raises(ValueError, match="places for images"):
        send(engine, with_images(*[Image.new("RGB", (2, 2))] * images))
    engine.close()


def test_images_need_a_conversation(engine: ServedEngine) -> None:
    with pytest.raises(UserError, match="apply_chat_template"):
        send(engine, with_images(Image.new("RGB", (2, 2))))


def test_prompts_that_the_server_renders_differently_are_counted(
    server: MisbehavingServer,
) -> None:
    engine = seeing(server, expected=lambda prompt: Expected([5, 1, 2, 3]))
    server.always = changed(prompt_token_ids=[5, 1, 9, 3, 4])
    send(engine, with_images(*[Image.new("RGB", (2, 2))] * 2))
    receive(engine, 1)
    assert engine.exchanged.different == 1
    assert engine.exchanged.first_difference == (
        "5 tokens instead of 4, different from token 3 on: [9, 3, 4] instead of [2, 3]"
    )
    engine.close()


# Faults: all answers arrive nevertheless, each for its own request


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (reset, "connection lost"),
        (truncated, "broken answer"),
        (aborted, "broken answer"),
        (never, "timeout"),
        (status(500, "EngineCore encountered an issue"), "HTTP 500"),
        (status(503, "restarting"), "HTTP 503"),
        (changed(id="cmpl-0-someone-else"), "wrong id"),
        (changed(choices=[]), "broken answer"),
    ],
    ids=["reset", "truncated", "aborted", "never", "500", "503", "id", "empty"],
)
def test_requests_survive(
    server: MisbehavingServer, engine: ServedEngine, fault: Fault, kind: str
) -> None:
    ask_many(engine, 1)  # the server has shown that it repeats ids
    server.faults.extend([fault] * 5)
    ask_many(engine)
    assert engine.exchanged.retried == {kind: 5}
    assert engine.exchanged.answered == 21


def test_swapped_answers_are_not_believed(server: MisbehavingServer, engine: ServedEngine) -> None:
    swapped = Swapped()
    server.faults.extend([swapped, swapped])
    ask_many(engine)
    assert engine.exchanged.retried == {"wrong id": 2}


def test_an_answer_to_another_prompt_is_not_believed(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    async def another(exchange: Any) -> None:
        exchange.body["prompt"] = [1, 1, 1]
        await changed()(exchange)

    server.faults.append(another)
    ask_many(engine)
    assert engine.exchanged.retried == {"wrong prompt": 1}


def test_a_busy_server_says_when_to_come_back(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.faults.append(status(429, "slow down", Retry_After="1"))
    since = time.monotonic()
    ask_many(engine, 1)
    assert 1 <= time.monotonic() - since < 3
    assert engine.exchanged.retried == {"HTTP 429": 1}


def test_a_server_that_restarts_is_waited_for(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.delay_s = 0.2
    prompts = [send(engine, [number, 1]) for number in range(12)]
    time.sleep(0.1)
    server.stop()
    threading.Timer(0.7, server.start).start()
    outputs = receive(engine, 12)
    assert {name: outputs[name].outputs[0].token_ids[-1] for name in prompts} == {
        name: number for number, name in enumerate(prompts)
    }
    assert engine.exchanged.retried["connection lost"] >= 1
    assert engine.exchanged.retried["connection refused"] >= QUICK.attempts


# Faults that end the run, with a message


def failure(engine: ServedEngine, prompt: Any = (1, 2)) -> Exception:
    send(engine, list(prompt) if isinstance(prompt, tuple) else prompt)
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        try:
            assert engine.step() == []
        except (UserError, ServerError) as error:
            return error
    raise AssertionError("no error")


def test_a_server_that_keeps_failing_ends_the_run(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.always = status(500, "EngineCore encountered an issue")
    error = failure(engine)
    assert isinstance(error, ServerError)
    assert str(error) == (
        f"engine.endpoint.url={server.url}: gave up: HTTP 500: EngineCore encountered an issue"
    )
    assert server.requests["/v1/completions"] == QUICK.attempts


def test_a_server_that_stays_away_ends_the_run(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.stop()
    since = time.monotonic()
    error = failure(engine)
    server.start()
    assert isinstance(error, ServerError)
    assert "gave up: connection refused" in str(error)
    assert time.monotonic() - since > QUICK.stall_s


def test_a_server_that_asks_to_wait_too_long_ends_the_run(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.always = status(429, "quota used up", Retry_After="3600")
    assert "HTTP 429: quota used up" in str(failure(engine))
    assert server.requests["/v1/completions"] == 1


def test_a_wrong_key_names_its_variable(server: MisbehavingServer) -> None:
    engine = connected(server, key="wrong")
    error = failure(engine)
    assert isinstance(error, UserError)
    assert "HTTP 401" in str(error)
    assert "check the key in the environment variable MY_KEY" in str(error)
    assert "wrong" not in str(error)
    engine.close()


def test_a_model_that_is_not_served_is_told_from_those_that_are(server: MisbehavingServer) -> None:
    engine = connected(server, model="other")
    assert f"engine.endpoint.model=other: {server.url} does not serve it; it serves {MODEL}" == str(
        failure(engine)
    )
    engine.close()


def test_any_other_rejection_is_in_the_servers_words(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.always = status(400, "top_k must be -1 or at least 1")
    assert str(failure(engine)).endswith("HTTP 400: top_k must be -1 or at least 1")
    assert server.requests["/v1/completions"] == 1


def test_a_server_without_prompt_logprobs_cannot_score(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    async def silent(exchange: Any) -> None:
        del exchange.body["prompt_logprobs"]
        await changed()(exchange)

    server.always = silent
    send(engine, [1, 2], Params(prompt_logprobs=1))
    with pytest.raises(UserError, match="cannot score given texts"):
        receive(engine, 1)


def test_an_error_comes_after_the_answers_before_it(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.faults.extend([changed(), status(400, "bad")])
    first = send(engine, [1])
    while not engine.exchanged.answered:
        time.sleep(0.01)
    second = send(engine, [2])
    while server.requests["/v1/completions"] < 2:
        time.sleep(0.01)
    time.sleep(0.1)
    assert [output.request_id for output in engine.step()] == [first]
    with pytest.raises(UserError, match="bad"):
        engine.step()
    engine.abort_request([second])


def test_the_first_step_begins_to_send(server: MisbehavingServer) -> None:
    engine = connected(server)
    names = {send(engine, [number]) for number in range(5)}
    time.sleep(0.2)
    assert not server.requests["/v1/completions"]
    assert receive(engine, 5).keys() == names
    engine.close()


def test_answers_are_collected_while_others_are_ready_to_be_sent(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.delay_s = 0.02
    engine.at_once(2)
    names = {send(engine, [number]) for number in range(40)}
    steps = [output.request_id for output in engine.step()]
    assert len(steps) > 2
    assert names == {*steps, *receive(engine, 40 - len(steps))}


def test_nothing_of_an_aborted_run_reaches_the_next(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.faults.extend([status(400, "bad")] * 5)
    names = [send(engine, [number]) for number in range(5)]
    with pytest.raises(UserError, match="bad"):
        receive(engine, 1)
    time.sleep(0.2)
    engine.abort_request(names)
    ask_many(engine)


# Prompts that are too long


def question(prompt: Any) -> Question:
    return Question(prompt, GREEDY, "generate", generated)


def test_a_text_that_is_too_long_is_not_sent(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    assert enqueue(engine, question({"prompt_token_ids": [1] * LONGEST})) is None
    assert not server.bodies


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 64 tokens.",
        "The decoder prompt (length 90) is longer than the maximum model length of 64.",
        "max_tokens must be at least 1, got 0.",
    ],
)
def test_images_that_are_too_long_are_an_empty_answer(
    server: MisbehavingServer, words: str
) -> None:
    engine = seeing(server)
    server.always = status(400, words)
    name = send(engine, with_images(*[Image.new("RGB", (2, 2))] * 2))
    answer = generated(receive(engine, 1)[name])
    assert answer == refused()
    assert answer.finish_reason == TOO_LONG
    engine.close()


# What is counted


def test_an_answer_cut_below_the_requested_length_is_counted(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    async def cut(exchange: Any) -> None:
        answer = exchange.answer()
        answer["choices"][0]["finish_reason"] = "length"
        await changed(choices=answer["choices"])(exchange)

    server.always = cut
    ask_many(engine, 2)
    assert engine.exchanged.shortened == 2


def test_a_model_that_changes_in_mid_run_is_counted(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    server.faults.append(changed(system_fingerprint="made-up-2"))
    ask_many(engine, 3)
    assert engine.exchanged.served == {(MODEL, "made-up-1"): 2, (MODEL, "made-up-2"): 1}


def test_each_run_has_a_prefix_cache_of_its_own(
    server: MisbehavingServer, engine: ServedEngine
) -> None:
    ask_many(engine, 2)
    engine.reset_prefix_cache()
    ask_many(engine, 1)
    first, second, third = (body["cache_salt"] for body in server.bodies)
    assert first == second != third


def test_a_server_that_makes_no_token_is_noticed(server: MisbehavingServer) -> None:
    """It answers everything but prompts, and its counters stand still."""
    server.always = never
    engine = connected(server, stall_s=0.2, patience=Patience())
    send(engine, [1, 2, 3])
    with pytest.raises(ServerError, match=r"no token within limits\.stall_s=0\.2 seconds"):
        for _ in range(10):
            engine.step()
    engine.close()


def test_an_answer_that_takes_too_long_twice_is_not_asked_for_again(
    server: MisbehavingServer,
) -> None:
    server.always = never
    engine = connected(server, patience=Patience(request_s=0.2, first_wait_s=0.01))
    send(engine, [1, 2, 3])
    with pytest.raises(ServerError, match=r"gave up: no complete answer within 0\.2 s"):
        for _ in range(10):
            engine.step()
    assert server.requests["/v1/completions"] == 2
    engine.close()
