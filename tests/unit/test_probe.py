"""Checks of a running server: a healthy one passes, and each fault is found."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.canary import WEIGHTS
from runner.errors import UserError
from runner.probe.__main__ import main
from runner.runtimes.server.endpoint import Endpoint
from runner.runtimes.server.probe.crosstalk import (
    Asked,
    Match,
    detectable_rate,
    detection_probability,
    judge,
    match,
)
from runner.runtimes.server.probe.examining import Probed, check_identity, examine
from runner.runtimes.server.probe.local import LocalModel, load
from runner.runtimes.server.probe.questions import nonces, nonces_in
from runner.runtimes.server.probe.reply import Reply, change, read_reply
from runner.status import INACCURATE, INFRASTRUCTURE, NO_VERDICT, USAGE_ERROR, Status
from tests.answering_server import NAME, Answer, AnsweringServer, Condition
from tests.misbehaving_server import KEY, status

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
AT_ONCE = 8
VARIABLE = "WORDS_FOR_THE_DOORMAN"  # of a name that tells nothing


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return load(str(WEIGHTS))


@pytest.fixture
def serve(local: LocalModel) -> Iterator[Callable[..., AnsweringServer]]:
    servers = []

    def started(**options: Any) -> AnsweringServer:
        servers.append(AnsweringServer(**{"model": local, **options}).start())
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


def probed(server: AnsweringServer, model: LocalModel | None = None, **options: Any) -> Probed:
    endpoint = Endpoint(server.url, "", KEY, VARIABLE)
    return examine(endpoint, model=model, concurrency=AT_ONCE, **options)


# A healthy server


def test_a_healthy_server_passes(serve: Callable[..., AnsweringServer], local: LocalModel) -> None:
    server = serve()
    found = probed(server, local)
    assert found.exit_status == 0
    assert found.identity.status is Status.PASSED
    assert {each.agreement.value for each in found.identity.prompts} == {"same"}
    assert found.identity.vocabulary is not None
    assert found.identity.vocabulary.compared == 515
    assert found.identity.max_model_len == found.identity.model_limit == 4096
    assert found.repeatability.status is Status.PASSED
    assert [each.name for each in found.repeatability.conditions] == [
        "alone, cold cache",
        "alone, warm cache",
        "batch, cold cache",
        "batch, warm cache",
    ]
    assert {each.largest for each in found.repeatability.conditions} == {0.0}
    assert found.repeatability.cached == found.repeatability.looked_up
    assert found.crosstalk.matches == {"own": 4 * AT_ONCE}
    assert found.crosstalk.visible == 1.0
    assert found.identity.unchecked == found.repeatability.unchecked == ()
    assert 1 < server.busiest <= AT_ONCE


def test_a_model_that_cannot_copy_is_asked_what_it_knows(
    serve: Callable[..., AnsweringServer],
) -> None:
    found = probed(serve(copies=False)).crosstalk
    assert found.status is Status.PASSED
    assert found.method == "16 texts with answers known from asking each alone"
    assert found.visible == pytest.approx(1 - 1 / 31)  # each is asked twice
    assert found.detected == pytest.approx(detectable_rate(32) / (1 - 1 / 31))


def test_images_are_asked_beside_texts(serve: Callable[..., AnsweringServer]) -> None:
    found = probed(serve(images=True))
    assert found.repeatability.images
    assert found.repeatability.requests == 4
    assert found.crosstalk.matches == {"own": 32}
    assert found.crosstalk.method == (
        "numbers of 8 digits to copy (chat); 16 images with answers known from asking each alone"
    )


def test_other_servers_are_checked_as_far_as_they_tell(
    serve: Callable[..., AnsweringServer], local: LocalModel
) -> None:
    found = probed(serve(vllm=False), local)
    assert found.exit_status == 0
    assert {each.agreement.value for each in found.identity.prompts} == {"same length"}
    assert any("only their number" in line for line in found.identity.unchecked)
    assert any("vocabulary" in line for line in found.identity.unchecked)
    assert [each.name for each in found.repeatability.conditions] == ["alone, again", "batch"]
    assert any("cache_salt" in line for line in found.repeatability.unchecked)


def test_a_server_without_chat_templates_is_asked_to_complete(
    serve: Callable[..., AnsweringServer], local: LocalModel
) -> None:
    found = probed(serve(chats=False), local)
    assert found.exit_status == 0
    assert "the chat template: the server rejects chat" in found.identity.unchecked
    assert "(completions)" in found.crosstalk.method


def test_a_server_with_nothing_but_chat(
    serve: Callable[..., AnsweringServer], local: LocalModel
) -> None:
    found = probed(serve(vllm=False, completes=False, usage=False), local)
    assert found.identity.status is Status.INCONCLUSIVE
    assert found.exit_status == NO_VERDICT
    assert found.repeatability.status is found.crosstalk.status is Status.PASSED


def test_no_model_to_compare_with_is_no_failure(serve: Callable[..., AnsweringServer]) -> None:
    found = probed(serve())
    assert found.identity.status is Status.UNJUDGED
    assert "add --model /weights" in found.identity.reason
    assert found.exit_status == 0


def test_a_preflight_can_check_the_identity_alone(
    serve: Callable[..., AnsweringServer], local: LocalModel
) -> None:
    server = serve()
    found = check_identity(Endpoint(server.url, "", KEY), local)
    assert found.status is Status.PASSED
    assert server.busiest == 1


# Identity


def changed_model(directory: Path, file: str, old: str, new: str) -> LocalModel:
    shutil.copytree(WEIGHTS, directory, dirs_exist_ok=True)
    text = (directory / file).read_text(encoding="utf-8")
    assert old in text
    (directory / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return load(str(directory))


def test_another_chat_template_is_found(
    serve: Callable[..., AnsweringServer], local: LocalModel, tmp_path: Path
) -> None:
    other = changed_model(tmp_path, "chat_template.jinja", "assistant\n", "assistant\nred ")
    found = probed(serve(model=other), local)
    assert found.exit_status == INACCURATE
    different = [each.name for each in found.identity.prompts if each.difference]
    assert different == ["chat", "chat with system message", "chat of several turns"]
    assert re.search(
        r"from token \d+ on: server \[.*'red.*local", found.identity.prompts[5].difference
    )
    assert found.crosstalk.status is Status.PASSED


def test_a_template_that_rejects_system_messages_must_do_so_on_both_sides(
    serve: Callable[..., AnsweringServer], local: LocalModel, tmp_path: Path
) -> None:
    strict = changed_model(
        tmp_path,
        "chat_template.jinja",
        "{%- for message in messages -%}\n",
        "{%- for message in messages -%}\n"
        "{%- if message['role'] == 'system' -%}{{ raise_exception('no') }}{%- endif -%}\n",
    )
    found = check_identity(Endpoint(serve().url, "", KEY), strict)
    assert found.prompts[6].difference == "only the local template rejects it"
    assert found.status is Status.FAILED


@pytest.mark.parametrize("vllm", [True, False])
def test_another_tokenizer_is_found(
    serve: Callable[..., AnsweringServer], local: LocalModel, tmp_path: Path, vllm: bool
) -> None:
    text = (WEIGHTS / "tokenizer.json").read_text(encoding="utf-8")
    merges = json.loads(text)["model"]["merges"]
    said = json.loads(text)
    said["model"]["merges"] = merges[: len(merges) // 2]
    shutil.copytree(WEIGHTS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    found = probed(serve(model=load(str(tmp_path)), vllm=vllm), local).identity
    assert found.status is Status.FAILED
    assert any(each.difference for each in found.prompts)


def test_another_vocabulary_is_found(
    serve: Callable[..., AnsweringServer], local: LocalModel, tmp_path: Path
) -> None:
    said = json.loads((WEIGHTS / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = said["model"]["vocab"]
    # Words that no text of the probe has.
    vocabulary["Ġpurple"], vocabulary["Ġdiamond"] = vocabulary["Ġdiamond"], vocabulary["Ġpurple"]
    shutil.copytree(WEIGHTS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    found = probed(serve(model=load(str(tmp_path))), local).identity
    assert found.status is Status.FAILED
    assert found.vocabulary is not None
    assert len(found.vocabulary.different) == 2
    assert "server ' purple', local ' diamond'" in " ".join(found.vocabulary.different)


def test_answers_from_two_models_are_found(serve: Callable[..., AnsweringServer]) -> None:
    found = probed(serve(names=("one", "two"))).identity
    assert found.status is Status.FAILED
    assert found.reason == "answers come from different models: one, two"
    assert found.answered_as == ("one", "two")


# Repeatability


def drift(nats: float, when: Callable[[Condition], bool], every: int = 1) -> Any:
    def fault(condition: Condition, answer: Answer) -> None:
        if when(condition):
            answer.logprobs[::every] = [value - nats for value in answer.logprobs[::every]]

    return fault


def flip(lead: float, place: int = 2) -> Any:
    """Another token under load, where the right one leads by so much."""

    def fault(condition: Condition, answer: Answer) -> None:
        answer.lead = lead
        if condition.busy and condition.number % 3 == 0:
            answer.tokens[place] += 1
            answer.text = answer.text[:3] + "?"

    return fault


def busy(condition: Condition) -> bool:
    return condition.busy


def cached(condition: Condition) -> bool:
    return condition.cached


@pytest.mark.parametrize("vllm", [True, False])
def test_log_probabilities_that_drift_under_load_are_found(
    serve: Callable[..., AnsweringServer], vllm: bool
) -> None:
    found = probed(serve(fault=drift(0.2, busy), vllm=vllm)).repeatability
    assert found.status is Status.FAILED
    assert "batch" in found.reason
    assert "alone" not in found.reason
    assert "moved by 0.2 nats (median)" in found.reason
    full = [each for each in found.conditions if each.name.startswith("batch")]
    assert [each.typical for each in full] == pytest.approx([0.2] * len(full))


def test_a_single_log_probability_that_jumps_is_found(
    serve: Callable[..., AnsweringServer],
) -> None:
    found = probed(serve(fault=drift(2.5, cached, every=23))).repeatability
    assert found.status is Status.FAILED
    assert "alone, warm cache: a log-probability moved by 2.5 nats" in found.reason
    assert "cold" not in found.reason
    assert {each.typical for each in found.conditions} == {0.0}


def test_rounding_is_no_fault(serve: Callable[..., AnsweringServer]) -> None:
    rng = random.Random(1)

    def rounding(condition: Condition, answer: Answer) -> None:
        answer.logprobs = [value + rng.gauss(0, 0.01) for value in answer.logprobs]

    found = probed(serve(fault=rounding)).repeatability
    assert found.status is Status.PASSED
    assert "moved by 0.0" in found.reason


def test_broken_log_probabilities_are_found(serve: Callable[..., AnsweringServer]) -> None:
    found = probed(serve(fault=drift(math.inf, busy, every=9)))
    assert found.repeatability.status is Status.FAILED
    assert "NaN or infinite" in found.repeatability.reason
    assert json.loads(json.dumps(found.repeatability.conditions[0].largest)) == 0.0


def test_a_token_that_changes_at_a_near_tie_is_no_fault(
    serve: Callable[..., AnsweringServer],
) -> None:
    found = probed(serve(fault=flip(0.1)))
    assert found.exit_status == 0
    assert sum(each.near_ties for each in found.repeatability.conditions) > 0
    assert "near-ties" in found.repeatability.reason
    assert set(found.crosstalk.matches) == {"own", "near-tie"}


def test_a_token_that_changes_at_a_clear_choice_is_a_fault(
    serve: Callable[..., AnsweringServer],
) -> None:
    found = probed(serve(fault=flip(6.0)))
    assert found.repeatability.status is Status.FAILED
    assert "at a clear choice" in found.repeatability.reason
    assert found.crosstalk.status is Status.FAILED
    assert found.crosstalk.matches["damaged"] > 0
    assert "foreign" not in found.crosstalk.matches


def test_changes_without_log_probabilities_are_inconclusive(
    serve: Callable[..., AnsweringServer],
) -> None:
    found = probed(serve(fault=flip(6.0), logprobs=False))
    assert found.repeatability.status is Status.INCONCLUSIVE
    assert found.crosstalk.status is Status.INCONCLUSIVE
    assert found.exit_status == NO_VERDICT


def test_equal_answers_without_log_probabilities_pass(
    serve: Callable[..., AnsweringServer],
) -> None:
    found = probed(serve(logprobs=False))
    assert found.exit_status == 0
    assert "log-probabilities: the server does not tell them" in found.repeatability.unchecked
    assert {each.largest for each in found.repeatability.conditions} == {None}


def test_a_batch_needs_more_requests_than_are_compared(
    serve: Callable[..., AnsweringServer],
) -> None:
    server = serve()
    found = examine(Endpoint(server.url, "", KEY), concurrency=2)
    assert "a full batch: at most 3 requests are concurrent" in found.repeatability.unchecked


# Cross-talk


@pytest.mark.parametrize("vllm", [True, False])
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("misroute", [True, False])
def test_answers_of_other_requests_are_found(
    serve: Callable[..., AnsweringServer], copies: bool, vllm: bool, misroute: bool
) -> None:
    server = serve(stray=0.25, copies=copies, vllm=vllm, misroute=misroute)
    found = probed(server, requests=64).crosstalk
    assert found.status is Status.FAILED
    assert found.matches["foreign"] >= 5
    assert found.rate == found.matches["foreign"] / sum(found.matches.values())
    assert found.bound is not None
    assert found.rate < found.bound < 0.6
    assert re.match(r"foreign: expected '.+', got '.+'", found.examples[0])
    assert len(found.examples) == 5


def test_answers_that_are_all_alike_show_nothing(serve: Callable[..., AnsweringServer]) -> None:
    found = probed(serve(copies=False, words=0))
    assert found.crosstalk.status is Status.INCONCLUSIVE
    assert found.crosstalk.unchecked == ("texts: the model gives too many the same answer",)
    assert found.crosstalk.detected is None
    assert found.exit_status == NO_VERDICT


def reply(text: str, lead: float | None = 5.0, **options: Any) -> Reply:
    """An answer whose tokens lead all others by this many nats."""
    tokens = tuple(text.split())
    others = {} if lead is None else {"other": -0.1 - lead}
    return Reply(text, tokens, (-0.1,) * len(tokens), (others,) * len(tokens), **options)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(reply("it is 1234-5678"), "12345678"), Match.OWN),
        (Asked(reply("it is 8765 4321"), "12345678"), Match.FOREIGN),
        (Asked(reply("1234 5678 and 87654321"), "12345678"), Match.FOREIGN),
        (Asked(reply("12345678", misrouted=True), "12345678"), Match.FOREIGN),
        (Asked(reply("no"), "12345678"), Match.UNCLEAR),
        (Asked(reply("no"), "12345678", reply("never")), Match.WEAK),
        (Asked(reply("no"), "12345678", reply("12345678")), Match.DAMAGED),
        (Asked(reply("no"), "12345678", reply("12345678", 0.2)), Match.NEAR_TIE),
        (Asked(reply("no"), "12345678", reply("12345678", None)), Match.UNCLEAR),
        (Asked(reply("red"), alone=reply("red")), Match.OWN),
        (Asked(reply("blue"), alone=reply("red")), Match.FOREIGN),
        (Asked(reply("blue"), alone=reply("red", 0.2)), Match.NEAR_TIE),
        (Asked(reply("grey"), alone=reply("red")), Match.DAMAGED),
        (Asked(reply("it is 87654321"), alone=reply("red", 0.2)), Match.FOREIGN),
    ],
)
def test_whose_answer_it_is(asked: Asked, expected: Match) -> None:
    assert match(asked, {"12345678", "87654321"}, {"red", "blue"}) is expected


def test_nonces_are_found_however_they_are_written() -> None:
    known = nonces(random.Random(1), 100)
    assert len(set(known)) == 100
    assert {len(each) for each in known} == {8}
    first, second = known[:2]
    assert nonces_in(f"{first[:3]},{first[3:6]},{first[6:]}", known) == {first}
    assert nonces_in(f"**{first}** or {second}", known) == {first, second}
    assert nonces_in(first[:7], known) == set()


def test_the_detection_probability_is_that_of_the_binomial() -> None:
    assert detection_probability(0.01, 256) == pytest.approx(1 - 0.99**256)
    assert detection_probability(0.01, 256, visible=0.5) == pytest.approx(1 - 0.995**256)
    for requests in (32, 256, 4096):
        assert detection_probability(detectable_rate(requests), requests) == pytest.approx(0.95)
    assert detectable_rate(64, visible=0.5) == pytest.approx(2 * detectable_rate(64))


def test_faults_at_the_detectable_rate_are_detected_as_often_as_stated() -> None:
    """Of the answers to known questions, of which some are alike."""
    rng = random.Random(3)
    answers = [str(n % 6) for n in range(60)]
    clean = [Asked(reply(each), alone=reply(each)) for each in answers]
    rate = judge(clean, method="", concurrency=1, unchecked=()).detected
    assert rate is not None
    found = 0
    for _ in range(1000):
        asked = [
            Asked(reply(rng.choice(answers) if rng.random() < rate else each), alone=reply(each))
            for each in answers
        ]
        verdict = judge(asked, method="", concurrency=1, unchecked=())
        found += verdict.status is Status.FAILED
    assert 0.93 < found / 1000 < 0.97


# Answers


def test_differences_are_compared_up_to_the_first_changed_token() -> None:
    others = ({"9": -9.0}, {"9": -9.0}, {"9": -1.0, "5": -2.3, "6": -4.3}, {"9": -9.0})
    first = Reply("", ("1", "2", "3", "4"), (-0.1, -0.2, -0.3, -0.4), others)
    later = Reply("", ("1", "2", "5"), (-0.1, -0.7, -9.0))
    found = change(first, later)
    assert not found.same
    assert found.lead == pytest.approx(2.0)  # over the token that replaced it
    assert found.moves == pytest.approx((0.0, 0.5))
    assert change(first, first).same
    unlisted = Reply("", ("1", "2", "7"))
    assert change(first, unlisted).lead == pytest.approx(4.0)  # at least
    shorter = Reply("", ("1", "2"), (-0.1, math.nan))
    assert change(first, shorter).lead == pytest.approx(0.7)  # over the runner-up
    assert change(first, shorter).broken == 1
    assert change(shorter, first).lead is None  # it ended there, which has no log-probability
    assert not change(Reply("a"), Reply("b")).same


def test_reasoning_belongs_to_an_answer() -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "the code is 12345678"}
    answer = {"choices": [{"message": message, "finish_reason": "length"}]}
    assert read_reply(answer, chat=True, misrouted=False).text == "the code is 12345678"


# The command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv(VARIABLE, KEY)

    def run(url: str, *arguments: str, key: str = VARIABLE) -> int:
        options = ["--api-key-env", key] if key else []
        return main([url, *options, "--concurrency", str(AT_ONCE), *arguments])

    return run


def test_the_page_fits_80_columns(
    serve: Callable[..., AnsweringServer],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("runner.report.terminal.LOG_COLUMNS", 80)
    server = serve(stray=0.3, vllm=False)
    assert command(server.url, "--model", str(WEIGHTS)) == INACCURATE
    page = capsys.readouterr().out
    assert "  alone, again " in page
    assert max(map(len, page.splitlines())) <= 80
    assert page.startswith(f"{server.url}\n")
    assert "PASSED  repeatability: same tokens" in page
    assert "FAILED  cross-talk" in page
    assert "Not checked" in page
    assert "Not healthy: accuracy is at risk" in page


def test_json_is_one_object(
    serve: Callable[..., AnsweringServer],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(serve().url, "--json", "--requests", "20", "--served-name", NAME) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exit_status"] == 0
    assert found["identity"]["status"] == "UNJUDGED"
    assert found["crosstalk"]["requests"] == 20
    assert found["repeatability"]["conditions"][0]["largest"] == 0.0
    page = (Path(__file__).parents[2] / "docs" / "probe.md").read_text(encoding="utf-8")
    _, _, documented = page.partition("\n## JSON\n")
    documented = documented.partition("\n## ")[0]
    for check, fields in found.items():
        for name in fields if isinstance(fields, dict) else (check,):
            assert re.search(rf"`(\w+|…)?\.?{name}`", documented), f"{check}.{name}"


def test_further_headers_are_sent(
    serve: Callable[..., AnsweringServer], command: Callable[..., int]
) -> None:
    server = serve()
    headers = ("--header", "X-Team=a=b", "--header", "X-Gate=2")
    assert command(server.url, "--requests", "20", *headers) == 0
    assert {(each["x-team"], each["x-gate"]) for each in server.headers} == {("a=b", "2")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--served-name", "made-down"], "--served-name made-down: "),
        (["--model", "/no/such/directory"], "--model /no/such/directory: "),
        (["--api-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE: this variable is not set"),
        (["--ca-file", "/no/such/file"], "--ca-file /no/such/file: "),
        (["--concurrency", "1"], "at least 2"),
        (["--header", "X-Team"], "must have the form NAME=VALUE"),
    ],
)
def test_usage_errors_name_the_option(
    serve: Callable[..., AnsweringServer],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert command(serve().url, *arguments) == USAGE_ERROR
    assert said in capsys.readouterr().err


def test_a_missing_or_wrong_key_is_a_usage_error(
    serve: Callable[..., AnsweringServer],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve()
    assert command(server.url, key="") == USAGE_ERROR
    assert "set --api-key-env to the name of a variable" in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, "open-wrong-door")
    assert command(server.url) == USAGE_ERROR
    told = capsys.readouterr().err
    assert f"check the key in the environment variable {VARIABLE}" in told
    assert "open-wrong-door" not in told  # the server repeats it


def test_a_key_in_what_a_server_says_is_masked(
    serve: Callable[..., AnsweringServer],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(names=(f"replica-{KEY}",))
    for options in ([], ["--json"]):
        assert command(server.url, *options) == 0
        page = capsys.readouterr().out
        assert "replica-******" in page
        assert KEY not in page


def test_a_server_that_cannot_be_reached_is_a_usage_error(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("http://127.0.0.1:9/v1") == USAGE_ERROR
    assert "error: http://127.0.0.1:9/v1: cannot connect" in capsys.readouterr().err


def test_a_server_that_fails_in_the_middle_is_infrastructure(
    serve: Callable[..., AnsweringServer],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve()
    whole = AnsweringServer._generate

    async def failing(self: AnsweringServer, exchange: Any) -> None:
        if sum(self.requests.values()) > 10:
            await status(500, "EngineCore encountered an issue")(exchange)
        else:
            await whole(self, exchange)

    monkeypatch.setattr(AnsweringServer, "_generate", failing)
    assert command(server.url) == INFRASTRUCTURE
    told = capsys.readouterr().err
    assert "gave up: HTTP 500: EngineCore encountered an issue" in told
    assert "engine.endpoint" not in told


def test_a_prompt_that_is_too_long_is_a_usage_error(
    serve: Callable[..., AnsweringServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    whole = AnsweringServer._generate

    async def narrow(self: AnsweringServer, exchange: Any) -> None:
        if len(json.dumps(exchange.body)) > 1000:
            await status(400, "longer than the maximum model length")(exchange)
        else:
            await whole(self, exchange)

    monkeypatch.setattr(AnsweringServer, "_generate", narrow)
    with pytest.raises(UserError, match="longer than the maximum model length"):
        probed(server)


HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "vllm", "msgspec", "lm_eval", "mlflow", "ray"):
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
from runner.probe.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_laptop_without_an_engine_can_probe(
    serve: Callable[..., AnsweringServer], command: Callable[..., int]
) -> None:
    arguments = ["--api-key-env", VARIABLE, "--model", str(WEIGHTS), "--concurrency", "4"]
    done = subprocess.run(
        [sys.executable, "-c", HIDING, serve().url, *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "PASSED  identity" in done.stdout


# The documentation


def test_the_documented_detection_probabilities_are_computed() -> None:
    page = (PROJECT / "docs" / "probe.md").read_text(encoding="utf-8")
    table = page.partition("### Detection probability")[2]
    rows = re.findall(r"^\| ([\d,]+) \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) == 4
    for requests, cells in rows:
        number = int(requests.replace(",", ""))
        *chances, least = cells.split(" | ")
        rates = (0.001, 0.01, 0.05)
        expected = [f"{100 * detection_probability(rate, number):.1f} %" for rate in rates]
        assert chances == expected
        assert least == f"{100 * detectable_rate(number):.2g} %"
