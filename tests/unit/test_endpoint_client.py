"""How requests reach a server: directly, or through a proxy of the environment."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from runner.errors import UserError
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
    async with server:
        async with (
            endpoint.session(2, 30.0) as session,
            session.post(endpoint.api("/completions"), data=b"{}") as response,
        ):
            assert await response.read() == b"{}"
        with endpoint.client() as client:
            answer = await asyncio.to_thread(
                client.post, endpoint.api("/completions"), content=b"{}"
            )
            assert answer.json() == {}
    return lines


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lines = asyncio.run(asked(FAR, {name: "http://127.0.0.1:{port}"}, monkeypatch))
    assert lines == [f"POST {FAR}/completions HTTP/1.1"] * 2


def test_a_server_on_this_machine_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict.fromkeys(("HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    lines = asyncio.run(asked("http://127.0.0.1:{port}/v1", variables, monkeypatch))
    assert lines == ["POST /v1/completions HTTP/1.1"] * 2


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        (FAR, {}, None),
        (FAR, {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        (FAR, {"HTTP_PROXY": "p:1"}, "http://p:1"),
        (FAR, {"HTTPS_PROXY": "http://p:1"}, None),
        (FAR.replace("http", "https"), {"HTTPS_PROXY": "http://u:v@p:1"}, "http://u:v@p:1"),
        (FAR, {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        (FAR, {"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://q:1"}, "http://p:1"),
        (FAR, {"HTTP_PROXY": "http://p:1", "NO_PROXY": "model.invalid"}, None),
        (FAR, {"ALL_PROXY": "http://p:1", "NO_PROXY": ".invalid"}, None),
        (FAR, {"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://[fd00::1]:8000/v1", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "fd00::1"}, None),
        ("http://localhost:8000/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://[::1]:8000/v1", {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_the_proxy_of_a_server(
    monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Endpoint(url).proxy == proxy


def test_a_socket_is_never_reached_by_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    endpoint = Endpoint(FAR, socket="/tmp/none.sock")
    assert endpoint.proxy is None

    async def connector() -> object:
        async with endpoint.session(2, 30.0) as session:
            return session.connector

    assert isinstance(asyncio.run(connector()), aiohttp.UnixConnector)


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@p:1")
    with pytest.raises(
        UserError, match=r"names a socks5 proxy.*NO_PROXY to model\.invalid"
    ) as told:
        Endpoint(FAR).client()
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(("url", "read"), [(FAR, False), (FAR.replace("http", "https"), True)])
def test_authorities_are_read_for_encrypted_connections_alone(url: str, read: bool) -> None:
    assert (Endpoint(url)._authorities() is not None) is read
