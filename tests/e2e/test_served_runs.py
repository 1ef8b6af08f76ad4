"""engine=served and engine=endpoint against real `vllm serve`: the in-process engine's answers."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.canary import WEIGHTS
from runner.platforms.cpu import Cpu
from tests.answering_server import Answer, AnsweringServer
from tests.e2e.conftest import Finished, Run, environment
from tests.misbehaving_server import KEY, MODEL, Exchange, MisbehavingServer, status, truncated

pytestmark = pytest.mark.slow

VARIABLE = "THE_KEY"


@pytest.fixture(scope="module")
def served_run(run: Run) -> Finished:
    """The canary on two replicas behind `vllm serve`."""
    return run("engine=served", "parallelism.dp=2")


def test_two_replicas_score_what_the_in_process_engine_does(
    served_run: Finished, default_run: Finished
) -> None:
    assert served_run.status == 0, served_run.printed
    (metric,) = (m for m in served_run.json("verdict.json")["metrics"] if m["task"] == "canary")
    assert metric["status"] == "PASSED"
    assert metric["value"] == pytest.approx(0.8933, abs=1e-4)
    assert "TP1 + DP2" in served_run.report
    assert compared(default_run, served_run)


def test_what_the_server_did_is_recorded(served_run: Finished) -> None:
    served = served_run.json("outcome.json")["served"]
    assert (served["asked"], served["answered"], served["retried"]) == (600, 600, {})
    assert (served["different"], served["unverified"], served["missing"]) == (0, 0, {})
    assert "--data-parallel-size=2" in served["command"]
    assert served["first_token"]["requests"] == 21
    assert sum(served["work"]["finished"].values()) == 600 + 21
    assert 0 < served["latency"]["p50"] <= served["latency"]["longest"]
    assert 0 < served["first_token"]["p50"] < served["latency"]["p90"]
    assert 0 < served["speed"]["p1"] <= served["speed"]["p10"] <= served["speed"]["p50"]
    assert "latency: median" in served_run.printed
    assert "first token: median" in served_run.printed
    assert "**Tokens/s of a request**: median" in served_run.report
    assert "**Server load**" in served_run.report


def test_the_server_ends_with_the_run(served_run: Finished) -> None:
    serving = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    left = [words for words in serving if words and "--data-parallel-size=2" in words]
    assert left == []


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that a user has started; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    variables = {**environment(), "VLLM_API_KEY": KEY, "VLLM_CPU_KVCACHE_SPACE": "1"}
    words = f"--dtype float32 --enforce-eager --host 127.0.0.1 --port {port}".split()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(WEIGHTS), *words],
            env={**variables, **Cpu().worker_environment(1, variables, eager=True)},
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
        assert process.poll() is None  # nobody stopped it
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(60)
        for each in family:
            if each.is_running():
                each.kill()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def test_a_running_server_gives_the_in_process_engines_answers(
    run: Run, by_hand: str, ask_text: tuple[str, ...], text_run: Finished
) -> None:
    remote = [each for each in ask_text if not each.startswith("engine.dtype")]
    address = (f"engine.endpoint.url={by_hand}", f"engine.endpoint.api_key_env={VARIABLE}")
    found = run(
        *remote,
        "engine=endpoint",
        *address,
        f"model.pretrained={WEIGHTS}",
        variables={VARIABLE: KEY},
    )
    assert found.status == text_run.status, found.printed
    served = found.json("outcome.json")["served"]
    assert served["retried"] == {}
    for name in ("repeatability", "crosstalk"):
        assert served["health"][name]["status"] == "PASSED"
    assert "repeatability: PASSED: same tokens" in found.printed
    assert "**Cross-talk**: PASSED: 128 concurrent requests got their own answers" in found.report
    assert compared(text_run, found)
    for file in found.directory.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def compared(first: Finished, second: Finished) -> bool:
    """Whether all answers and all log-probabilities are the same, to rounding."""
    # Tasks are in the order in which they ended.
    theirs, ours = (
        sorted(each.samples(), key=lambda row: (row["task"], row["doc_id"], row["filter"]))
        for each in (first, second)
    )
    assert len(theirs) == len(ours) > 0
    for a, b in zip(theirs, ours, strict=True):
        assert (a["doc_id"], a["prompt_hash"]) == (b["doc_id"], b["prompt_hash"])
        assert (a["responses"], a["token_ids"]) == (b["responses"], b["token_ids"])
        for column in ("logprobs", "choice_logprobs"):
            assert a[column] == pytest.approx(b[column], abs=1e-4)
    words = [sys.executable, "-m", "runner.compare", str(first.directory), str(second.directory)]
    ended = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    return f"{len({(row['task'], row['doc_id']) for row in ours})} questions" in ended.stdout and (
        "0 got worse and 0 better" in ended.stdout
    )


@pytest.fixture
def misbehaving() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer().start()
    yield server
    server.stop()


JUDGED = "model.baselines.gsm8k.exact_match.strict-match=0.0"


def ask(run: Run, server: MisbehavingServer, data: Path, *overrides: str) -> Finished:
    return run(
        "tracking=off",
        "model=any",
        f"model.pretrained={WEIGHTS}",
        "model.backend=vllm",
        "task.names=[gsm8k]",
        f"task.data_dir={data}",
        "task.num_fewshot=0",
        "task.apply_chat_template=false",
        "task.gen_kwargs.max_gen_toks=4",
        "verdict.require_baseline=false",
        "engine=endpoint",
        "engine.max_model_len=null",
        f"engine.endpoint.url={server.url}",
        f"engine.endpoint.api_key_env={VARIABLE}",
        *overrides,
        variables={VARIABLE: KEY},
    )


def test_faults_that_pass_lose_and_repeat_nothing(
    run: Run, misbehaving: MisbehavingServer, text_data: Path
) -> None:
    faults = [status(503, "restarting"), truncated, status(500, "oops")]

    async def answer(exchange: Exchange) -> None:
        """Faults meet the evaluation's prompts, which are tokens, and not what is asked before."""
        if isinstance(exchange.body.get("prompt"), list) and faults:
            await faults.pop()(exchange)
        else:
            await exchange.send(200, json.dumps(exchange.answer()).encode())

    misbehaving.always = answer
    found = ask(run, misbehaving, text_data, JUDGED)
    assert found.status == 0, found.printed
    served = found.json("outcome.json")["served"]
    assert served["asked"] == served["answered"] == 8
    assert len({row["doc_id"] for row in found.samples()}) == 8
    assert served["retried"] == {"HTTP 503": 1, "broken answer": 1, "HTTP 500": 1}
    assert "retried requests: " in found.printed


def test_a_server_that_does_not_repeat_its_answers_never_passes(
    run: Run, misbehaving: MisbehavingServer, text_data: Path
) -> None:
    """Its faults meet the checks before the evaluation, and the evaluation meets none.

    A server that repeats its answers passes: test_faults_that_pass_lose_and_repeat_nothing.
    """
    chats = itertools.count()

    async def answer(exchange: Exchange) -> None:
        found = exchange.answer()
        if "messages" in exchange.body:
            for token in found["choices"][0]["logprobs"]["content"]:
                token["logprob"] -= next(chats) % 7
        await exchange.send(200, json.dumps(found).encode())

    misbehaving.always = answer
    found = ask(run, misbehaving, text_data, JUDGED)
    assert found.status == 4, found.printed
    assert found.json("verdict.json")["status"] == "INCONCLUSIVE"
    assert "failed the repeatability check" in found.json("verdict.json")["reason"]
    assert "repeatability: FAILED: " in found.printed
    unchecked = ask(run, misbehaving, text_data, JUDGED, "engine.endpoint.probe=false")
    assert unchecked.status == 0, unchecked.printed
    assert unchecked.json("outcome.json")["served"]["health"] is None


def test_a_server_that_keeps_failing_ends_the_run_with_its_own_words(
    run: Run, misbehaving: MisbehavingServer, text_data: Path
) -> None:
    misbehaving.always = status(500, "the cache is corrupt")
    found = ask(run, misbehaving, text_data, "limits=none")
    assert found.status == 2, found.printed
    assert found.json("verdict.json")["status"] == "ERROR"
    assert "the cache is corrupt" in found.json("verdict.json")["reason"]


def test_a_model_that_is_not_served_is_the_users_mistake(
    run: Run, misbehaving: MisbehavingServer, text_data: Path
) -> None:
    found = ask(run, misbehaving, text_data, "engine.endpoint.model=other")
    assert found.status == 1
    assert f"does not serve it; it serves {MODEL}" in found.printed
    assert "Traceback" not in found.printed
    assert not found.directory.exists()


def test_a_mistake_in_the_requests_ends_the_server_that_is_starting(run: Run) -> None:
    sign = "--max-model-len=777"
    found = run(
        "engine=served",
        "engine.max_model_len=777",
        "model.max_images=1",
        "task.names=[canary_compare]",
    )
    assert found.status == 1
    assert "set model.max_images=2" in found.printed
    serving = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert not [words for words in serving if words and sign in words]


class ReasoningServer(AnsweringServer):
    """A server with a reasoning parser, which cuts every fourth answer while it thinks."""

    chatted = 0

    def _written(
        self, exchange: Exchange, named: Exchange, prompt: list[int], answer: Answer
    ) -> dict[str, Any]:
        found = super()._written(exchange, named, prompt, answer)
        (choice,) = found["choices"]
        if "message" in choice:
            self.chatted += 1
            choice["message"]["reasoning"] = "Let me look."
            if self.chatted % 4 == 0:
                choice["message"]["content"] = None
                choice["finish_reason"] = "length"
            elif self.chatted % 4 == 1:
                choice["message"]["content"] = "\n\n"
        return found


@pytest.mark.exhaustive
def test_the_reasoning_that_a_server_took_out_is_kept(run: Run) -> None:
    server = ReasoningServer(images=True, vllm=False).start()
    try:
        found = run(
            "task.limit=2",
            "engine=endpoint",
            "engine.endpoint.probe=false",
            f"engine.endpoint.url={server.url}",
            f"engine.endpoint.api_key_env={VARIABLE}",
            "model.think_end_token='</think>'",
            variables={VARIABLE: KEY},
        )
    finally:
        server.stop()
    rows = found.samples()
    assert len(rows) >= 8, found.printed
    assert all(row["reasoning"] == ["Let me look."] for row in rows)
    cut = sum(row["cut_thinking"] for row in rows)
    assert cut == sum(row["finish_reasons"] == ["length"] for row in rows) > 0
    empty = sum(row["thought_only"] for row in rows)
    ended = [row for row in rows if row["finish_reasons"] == ["stop"]]
    assert empty == sum(not row["responses"][0].strip() for row in ended) > 0
    assert "of them while thinking" in found.report
    assert "answers are empty after their reasoning" in " ".join(found.printed.split())
    assert (
        "took the reasoning out" not in found.report
    )  # model.think_end_token says that it reasons
