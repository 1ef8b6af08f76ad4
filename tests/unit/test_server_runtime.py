"""engine=served and engine=endpoint: their plans, their fingerprints, and what they refuse."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from runner import preflight
from runner.config.schema import RunConfig
from runner.interpreters import OWN, Interpreter
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms import PLATFORMS
from runner.platforms.cpu import Cpu
from runner.present.lm_eval_command import lm_eval_command
from runner.report.serving import serving
from runner.runtimes import runtime_of
from runner.served import Latency, Served, ServerWork, Speculation
from runner.status import Status
from runner.supervision.supervisor import _same_engine
from runner.sweep.resume import _same
from runner.tracking.metrics import metrics
from runner.verdict import judge
from tests.misbehaving_server import KEY, MODEL, MisbehavingServer

Compose = Callable[..., RunConfig]
SERVED = Served("0.32.0", "canary", "/weights", "", asked=600, answered=600)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has vLLM and torch, which these tests do not need."""
    monkeypatch.setattr(Interpreter, "places", lambda self, name: (name,))
    monkeypatch.setattr(Cpu, "missing", lambda self, python=OWN: [])


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    running = MisbehavingServer().start()
    yield running
    running.stop()


def attached(compose: Compose, server: MisbehavingServer, *overrides: str) -> RunConfig:
    return compose(
        "engine=endpoint",
        f"engine.endpoint.url={server.url}",
        "engine.endpoint.api_key_env=THE_KEY",
        "engine.max_model_len=64",
        *overrides,
    )


def planned(config: RunConfig, facts: Facts, told: dict[str, str] | None = None) -> Plan:
    return make_plan(config, replace(facts, versions=told or {}))


def test_a_launched_server_has_the_in_process_engines_arguments(
    compose: Compose, facts: Facts
) -> None:
    here = planned(compose("engine=cpu"), facts).engine_args
    there = dict(planned(compose("engine=served", "engine.platform=cpu"), facts).engine_args)
    assert there.pop("server") == {"request_s": 1800.0, "stall_s": 900.0, "start_s": 3600.0}
    assert there == here


def test_data_parallelism_needs_a_server(compose: Compose) -> None:
    def problems(*overrides: str) -> list[str]:
        found = preflight.look(compose("parallelism.dp=2", *overrides)).problems
        return [problem for problem in found if "dp=2" in problem]

    (inside,) = problems("engine=cpu")
    assert "engine=served" in inside
    assert problems("engine=served", "engine.platform=cpu") == []


def test_every_replica_counts_as_a_device(compose: Compose, facts: Facts) -> None:
    plan = planned(compose("engine=served", "engine.platform=cpu", "parallelism.dp=2"), facts)
    assert (plan.devices, plan.parallel_mode) == (2, "TP1 + DP2")


def test_limits_and_addresses_are_no_part_of_the_engine(compose: Compose, facts: Facts) -> None:
    def fingerprint(*overrides: str) -> str:
        return planned(compose(*overrides), facts).engine_fingerprint

    served = ("engine=served", "engine.platform=cpu")
    assert fingerprint(*served) == fingerprint(*served, "limits.request_s=5")
    assert fingerprint(*served) != fingerprint("engine=cpu", "engine.env={}")
    first, second = (("engine=endpoint", f"engine.endpoint.url=http://{n}:1/v1") for n in "ab")
    assert fingerprint(*first) == fingerprint(*second)


def test_what_a_server_says_of_itself_is(compose: Compose, facts: Facts) -> None:
    config = compose("engine=endpoint", "engine.endpoint.url=http://a:1/v1")
    first, second = (planned(config, facts, {"server": version}) for version in ("1", "2"))
    assert first.engine_fingerprint != second.engine_fingerprint


def test_a_journal_needs_a_label(compose: Compose, facts: Facts) -> None:
    url = ("engine=endpoint", "engine.endpoint.url=http://a:1/v1", "journal=resume")
    assert planned(compose(*url), facts).journal is None
    assert planned(compose(*url, "engine.endpoint.label=nightly"), facts).journal is not None


@pytest.mark.parametrize(("backend", "missing"), [("vllm-vlm", True), ("vllm", False)])
def test_only_images_need_torch(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, backend: str, missing: bool
) -> None:
    monkeypatch.setattr(
        Interpreter, "places", lambda self, name: () if name == "torch" else (name,)
    )
    config = compose(
        "engine=endpoint", "engine.endpoint.url=http://a:1/v1", f"model.backend={backend}"
    )
    found = runtime_of("endpoint").missing(config, PLATFORMS["remote"])
    said = "prompts with images need torch: pip install torch"
    assert found == ([said] if missing else [])


def test_preflight_asks_the_server(
    compose: Compose, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    found = preflight.look(attached(compose, server))
    assert found.problems == []
    assert (found.told["served model"], found.told["max_model_len"]) == (MODEL, "64")
    assert KEY not in str(found)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine.max_model_len=65"], "the server's model has max_model_len 64"),
        (["engine.endpoint.model=made-upp"], f"serves {MODEL}"),
        (["engine.endpoint.url=http://127.0.0.1:1/v1"], "cannot connect"),
        (["+engine.extra.max_num_seqs=4"], "engine.extra: the server is already running"),
        (["parallelism.tp=2"], "parallelism.tp=2: the server is already running"),
        (["engine.quantization=ascend"], "engine.quantization: the server is already running"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    compose: Compose,
    server: MisbehavingServer,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    (problem,) = preflight.look(attached(compose, server, *overrides)).problems
    assert said in problem


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine=endpoint"], "engine.endpoint.url"),
        (["engine=endpoint", "engine.endpoint.url=host:8000"], "must start with http"),
        (["engine=endpoint", 'engine.endpoint.url="http://h/v1?a=b"'], "must end with the path"),
        (["engine=cpu", "engine.endpoint.url=http://h/v1"], "engine=endpoint"),
        (
            ["engine=endpoint", "engine.endpoint.url=http://h/v1", "engine.platform=cpu"],
            "engine.platform=cpu: must be remote",
        ),
        (["engine=endpoint", 'engine.endpoint.url="http://[::1/v1"'], "not a valid address"),
        (
            [
                "engine=endpoint",
                "engine.endpoint.url=http://h/v1",
                "engine.endpoint.api_key_env=ME",
            ],
            "use a name that ends in KEY or TOKEN",
        ),
    ],
)
def test_wrong_settings_are_named(compose: Compose, overrides: list[str], said: str) -> None:
    (problem,) = preflight.look(compose(*overrides)).problems
    assert said in problem


def test_lm_evals_command_asks_the_same_server(compose: Compose, facts: Facts) -> None:
    url = ("engine=endpoint", "engine.endpoint.url=http://a:1/v1/")
    words = shlex.split(lm_eval_command(planned(compose(*url), facts)).splitlines()[-1])
    assert words[words.index("--model") + 1] == "local-chat-completions"
    assert "http://a:1/v1/chat/completions" in words[words.index("--model_args") + 1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"different": 3, "first_difference": "5 tokens instead of 4"}, "rendered 3 of 600"),
        ({"answered_by": {"a 1": 300, "b 2": 300}}, "2 different engines: a 1, b 2"),
        ({"shortened": 2}, "2 answers ended before"),
        ({"reasoned": 9}, "reasoning out of 9 answers"),
    ],
)
def test_answers_to_something_else_never_pass(
    compose: Compose, plan: Plan, outcome: Outcome, changed: dict[str, Any], said: str
) -> None:
    rule = compose().verdict
    passed = judge(replace(outcome, served=SERVED), plan.evaluations, rule)
    assert passed.status is Status.PASSED
    doubted = judge(replace(outcome, served=replace(SERVED, **changed)), plan.evaluations, rule)
    assert doubted.status is Status.INCONCLUSIVE
    assert said in doubted.reason


def test_reports_tell_what_the_server_did(outcome: Outcome) -> None:
    finished, speculation = {"stop": 598, "length": 2}, Speculation(100, 300, 150)
    work = ServerWork(2, 100, 25, 7365, 279, finished, speculation, 0.1, 0.2, 0.01)
    served = replace(
        SERVED,
        latency=Latency(0.1, 0.2, 0.3, 0.4),
        work=work,
        retried={"HTTP 503": 2},
        unverified=4,
        missing={"token ids": 1},
    )
    said = dict(serving(served))
    assert said["Server"] == "version 0.32.0, model canary, loaded from /weights"
    assert "99 % within 0.3 s" in said["Latency"]
    assert "first token after 0.2 s and each later one after 10 ms" in said["Latency"]
    assert "7,365 prompt tokens (25.0 % from the prefix cache)" in said["Server load"]
    assert "50.0 % of 300 drafted tokens accepted, 2.50 tokens per step" in said["Server load"]
    assert said["Retried requests"] == "2 × HTTP 503"
    assert "1 answers without token ids" in said["Not known"]
    assert "4 prompts" in said["Not known"]
    assert serving(None) == []
    found = metrics(
        Outcome(State.COMPLETED, served=served), judge(outcome, (), RunConfig().verdict)
    )
    assert found["perf/latency_p99_s"] == 0.3
    assert found["perf/acceptance_rate"] == 0.5
    assert found["perf/retried_requests"] == 2.0


def test_another_server_gets_another_worker(compose: Compose, facts: Facts) -> None:
    """Two servers that say the same of themselves have equal fingerprints."""

    def plan(host: str) -> Plan:
        url = f"engine.endpoint.url=http://{host}:1/v1"
        return planned(compose("engine=endpoint", url), facts)

    assert plan("a").engine_fingerprint == plan("b").engine_fingerprint
    assert _same_engine(plan("a"), plan("a"))
    assert not _same_engine(plan("a"), plan("b"))


def test_a_point_on_a_server_without_a_label_is_never_done_before(
    compose: Compose, facts: Facts
) -> None:
    url = ("engine=endpoint", "engine.endpoint.url=http://a:1/v1")
    unnamed = planned(compose(*url), facts)
    labelled = planned(compose(*url, "engine.endpoint.label=nightly"), facts)
    assert not _same(unnamed, unnamed)
    assert _same(labelled, labelled)
