"""How requests reach a server: directly over quick connections, or through a proxy."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from runner.runtimes.server.endpoint import Endpoint

FAR = "http://model.invalid/v1"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def asked(url: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first lines of what reaches a proxy, or a server at `{port}` of the URL."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(port=port))
    endpoint = Endpoint(url.format(port=port))
    async with server, endpoint.async_client(2) as client:
        assert (await client.post(endpoint.api("/completions"), content=b"{}")).json() == {}
    return lines


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lines = asyncio.run(asked(FAR, {name: "http://127.0.0.1:{port}"}, monkeypatch))
    assert lines == [f"POST {FAR}/completions HTTP/1.1"]


def test_a_server_on_this_machine_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict.fromkeys(("HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    lines = asyncio.run(asked("http://127.0.0.1:{port}/v1", variables, monkeypatch))
    assert lines == ["POST /v1/completions HTTP/1.1"]


@pytest.mark.parametrize(
    ("url", "variables", "quick"),
    [
        (FAR, {}, True),
        (FAR, {"HTTP_PROXY": "http://p:1"}, False),
        (FAR, {"HTTPS_PROXY": "http://p:1"}, True),
        (FAR, {"ALL_PROXY": "http://p:1"}, False),
        (FAR, {"HTTP_PROXY": "http://p:1", "NO_PROXY": "model.invalid"}, True),
        (FAR, {"ALL_PROXY": "http://p:1", "NO_PROXY": ".invalid"}, True),
        ("http://[fd00::1]:8000/v1", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "fd00::1"}, True),
        ("http://localhost:8000/v1", {"HTTP_PROXY": "http://p:1"}, True),
    ],
)
def test_connections_are_quick_unless_there_is_a_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], quick: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = Endpoint(url).async_client(2)
    found = client._transport_for_url(httpx.URL(url))
    assert isinstance(found, AiohttpTransport) is quick


def test_a_socket_is_never_reached_by_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    client = Endpoint("http://localhost/v1", socket="/tmp/none.sock").async_client(2)
    found = client._transport_for_url(httpx.URL("http://localhost/v1"))
    assert isinstance(found, AiohttpTransport)
    assert found.uds == "/tmp/none.sock"
