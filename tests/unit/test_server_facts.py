"""What a server says of itself, and what its user is told if it is no such server."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UserError
from runner.runtimes.server.endpoint import Endpoint
from runner.runtimes.server.metrics import Speculation, read_counters, work_between
from runner.runtimes.server.server import server_counters, server_facts, tells_logprobs
from tests.misbehaving_server import KEY, LONGEST, MODEL, MisbehavingServer, status

BEFORE = """\
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{engine="0",model_name="m"} 1.0
vllm:num_preemptions_total{engine="1",model_name="m"} 0.0
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 100.0
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 10.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 0.0
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 5.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 5.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 10.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 10.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 5.0
# TYPE vllm:spec_decode_num_drafts counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 10.0
# TYPE vllm:spec_decode_num_draft_tokens counter
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 20.0
# TYPE vllm:spec_decode_num_accepted_tokens counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 10.0
# TYPE vllm:spec_decode_num_accepted_tokens_per_pos counter
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0",model_name="m"} 7.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="1",model_name="m"} 3.0
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1000.0
"""
CHANGES = {
    'preemptions_total{engine="1",model_name="m"} 0': (
        'preemptions_total{engine="1",model_name="m"} 2'
    ),
    'queries_total{engine="0",model_name="m"} 100': 'queries_total{engine="0",model_name="m"} 180',
    'queries_total{engine="1",model_name="m"} 100': 'queries_total{engine="1",model_name="m"} 120',
    'hits_total{engine="1",model_name="m"} 0': 'hits_total{engine="1",model_name="m"} 25',
    'reason="stop",model_name="m"} 5': 'reason="stop",model_name="m"} 9',
    'seconds_count{engine="0",model_name="m"} 10': 'seconds_count{engine="0",model_name="m"} 14',
    'seconds_sum{engine="0",model_name="m"} 5': 'seconds_sum{engine="0",model_name="m"} 6',
    'drafts_total{engine="0",model_name="m"} 10': 'drafts_total{engine="0",model_name="m"} 20',
    'draft_tokens_total{engine="0",model_name="m"} 20': (
        'draft_tokens_total{engine="0",model_name="m"} 40'
    ),
    'accepted_tokens_total{engine="0",model_name="m"} 10': (
        'accepted_tokens_total{engine="0",model_name="m"} 25'
    ),
    'position="0",model_name="m"} 7': 'position="0",model_name="m"} 17',
    'position="1",model_name="m"} 3': 'position="1",model_name="m"} 8',
}
AFTER = BEFORE
for _old, _new in CHANGES.items():
    AFTER = AFTER.replace(_old, _new)


def test_work_is_the_difference_summed_over_engines() -> None:
    work = work_between(read_counters(BEFORE), read_counters(AFTER))
    assert work.preemptions == 2
    assert (work.prefix_queries, work.prefix_hits, work.prefix_hit_rate) == (100, 25, 0.25)
    assert work.finished == {"stop": 4}
    assert work.first_token_s == 0.25
    assert work.speculation == Speculation(10, 20, 15, (10, 5))
    assert work.speculation.acceptance_rate == 0.75
    assert work.speculation.accepted_length == 2.5
    assert (work.prompt_tokens, work.generation_tokens, work.restarted) == (None, None, False)


@pytest.mark.parametrize("old", ["seconds 1000", 'queries_total{engine="0",model_name="m"} 100'])
def test_counters_that_began_anew_are_not_subtracted(old: str) -> None:
    later = read_counters(AFTER.replace("seconds 1000", "seconds 1001"))
    work = work_between(read_counters(BEFORE.replace(old, old[: -len("100")] + "900")), later)
    assert work.restarted
    assert work.preemptions == 3


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer().start()
    yield server
    server.stop()


def at(server: MisbehavingServer, **changed: Any) -> Endpoint:
    settings = {"url": server.url, "api_key": KEY, "api_key_env": "MY_KEY"}
    return Endpoint(**{**settings, **changed})


def test_a_server_tells_its_version_and_model(server: MisbehavingServer) -> None:
    facts = server_facts(at(server))
    assert (facts.version, facts.vllm) == ("0.0.1", True)
    assert (facts.model.id, facts.model.max_model_len) == (MODEL, LONGEST)
    assert server_facts(at(server, model=MODEL)).model == facts.model


def test_its_counters_are_read(server: MisbehavingServer) -> None:
    counters = server_counters(at(server))
    assert counters is not None
    assert work_between(counters, counters).generation_tokens == 0


def test_a_server_without_counters_has_none(server: MisbehavingServer) -> None:
    assert server_counters(at(server, url=server.url + "/elsewhere")) is None


def refusal(endpoint: Endpoint) -> str:
    with pytest.raises(UserError) as caught:
        server_facts(endpoint)
    (problem,) = caught.value.problems
    return problem


def test_a_wrong_key_names_its_variable(server: MisbehavingServer) -> None:
    said = refusal(at(server, api_key="mine"))
    assert "HTTP 401: Unauthorized; check the key in the environment variable MY_KEY" in said
    assert "mine" not in said


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("MY_KEY", "set the environment variable MY_KEY to its key"),
        ("", "set engine.endpoint.api_key_env"),
    ],
)
def test_a_missing_key_is_asked_for(server: MisbehavingServer, variable: str, told: str) -> None:
    assert told in refusal(at(server, api_key="", api_key_env=variable))


def test_a_model_that_is_not_served_has_a_near_match(server: MisbehavingServer) -> None:
    said = refusal(at(server, model="made-pu"))
    assert f"does not serve it; it serves {MODEL}. Did you mean '{MODEL}'?" in said


@pytest.mark.parametrize("page", [b"<html>Welcome</html>", b'{"data": 3}', b"[]", b"null"])
def test_another_kind_of_server_is_told(server: MisbehavingServer, page: bytes) -> None:
    server.page = page
    assert "not an OpenAI-compatible server" in refusal(at(server))


def test_a_url_without_v1_is_told(server: MisbehavingServer) -> None:
    said = refusal(at(server, url=server.url.removesuffix("/v1")))
    assert "HTTP 404" in said
    assert said.endswith("the URL should end in /v1")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("127.0.0.1:8000/v1", "not a URL"),
        ("ftp://127.0.0.1/v1", "not a URL"),
        ("http://127.0.0.1:1/v1", "cannot connect"),
        ("http://nowhere.invalid/v1", "cannot connect"),
    ],
)
def test_a_url_that_leads_nowhere_is_told(url: str, told: str) -> None:
    assert f"engine.endpoint.url={url}: {told}" in refusal(Endpoint(url))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "made up")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[MisbehavingServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = MisbehavingServer(tls=context).start()
    yield server
    server.stop()


def test_a_certificate_that_is_not_trusted_is_told(over_tls: MisbehavingServer) -> None:
    said = refusal(at(over_tls))
    assert "the server's certificate is not trusted: self-signed certificate" in said
    assert said.endswith("set engine.endpoint.ca_file to the file of its authority")


def test_an_authority_of_the_users_own_is_trusted(
    over_tls: MisbehavingServer, certificate: Path
) -> None:
    assert server_facts(at(over_tls, ca_file=str(certificate))).model.id == MODEL


def test_a_missing_authority_is_told(server: MisbehavingServer) -> None:
    said = refusal(at(server, ca_file="/nowhere.pem"))
    assert said.startswith("engine.endpoint.ca_file=/nowhere.pem: ")


def test_log_probabilities_are_asked_for(server: MisbehavingServer) -> None:
    assert tells_logprobs(at(server), MODEL)
    server.always = status(400, "no logprobs here")
    assert not tells_logprobs(at(server), MODEL)


def test_a_proxy_without_a_list_of_models_is_asked_a_question(
    server: MisbehavingServer,
) -> None:
    """As vllm-ascend's proxies for prefill/decode disaggregation up to 0.26."""
    server.lists_models, server.tells_tokens = False, True
    assert "not an OpenAI-compatible server" in refusal(at(server))
    facts = server_facts(at(server, model=MODEL))
    assert (facts.model.id, facts.model.max_model_len, facts.vllm) == (MODEL, None, True)
