"""An OpenAI-compatible API: where it is, how to reach it, and what its errors mean."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from runner.errors import UserError

# It reports each request at the level of Hydra's own log, which users see.
logging.getLogger("httpx").setLevel(logging.WARNING)
# The paths of the API that answer prompts.
COMPLETIONS = "/completions"
CHAT = "/chat/completions"
# vLLM closes idle connections after 5 s. Ours end earlier, or a request could meet the closing one.
KEEP_ALIVE_S = 3.0
CONNECT_S = 10.0
ANSWER_S = 30.0
# Hosts that no proxy can reach for us, whatever the proxy variables of the environment say.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Longest part of a server's own words in a message.
WORDS = 400


class ServerError(Exception):
    """The server failed to answer, in its own words."""


@dataclass(frozen=True)
class Endpoint:
    """An API at `url`, which ends before `/completions`: `http://host:8000/v1`.

    `api_key_env` is the environment variable that the key came from, for messages. `ca_file` is a
    file of certificate authorities. A server that the runner has started listens on a `socket` in
    the file system instead of at the URL's host.
    """

    url: str
    model: str = ""
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str | None = None
    socket: str | None = None

    @property
    def place(self) -> str:
        """The server in messages: the setting that leads to it."""
        return "vllm serve" if self.socket else f"engine.endpoint.url={self.url}"

    def api(self, path: str) -> str:
        """The URL of a path of the OpenAI API, for example `/models`."""
        return self.url.rstrip("/") + path

    def root(self, path: str) -> str:
        """The URL of one of vLLM's own paths beside the API, for example `/metrics`."""
        return self.url.rstrip("/").removesuffix("/v1") + path

    @property
    def proxy(self) -> str | None:
        """The proxy that the environment names for this server; None if it is reached directly.

        Raises:
            UserError: if it is not an HTTP proxy.
        """
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if self.socket or host in LOOPBACK or proxy_bypass(host):
            return None
        named = getproxies()
        found = named.get(parts.scheme) or named.get("all") or ""
        if found and "://" not in found:
            found = f"http://{found}"
        if found and urlsplit(found).scheme not in ("http", "https"):
            raise UserError(
                f"{self.place}: the environment names a {urlsplit(found).scheme} proxy, and only "
                "HTTP proxies can be used; set HTTP_PROXY or HTTPS_PROXY to one, or NO_PROXY to "
                f"{host} if the server can be reached directly"
            )
        return found or None

    def client(self) -> httpx.Client:
        """A client for a few questions.

        Raises:
            UserError: if the file of certificate authorities cannot be read.
        """
        return httpx.Client(
            headers=self._headers(),
            transport=httpx.HTTPTransport(
                uds=self.socket, proxy=self.proxy, verify=self._authorities() or False
            ),
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        )

    def session(self, connections: int, request_s: float) -> aiohttp.ClientSession:
        """A client for many requests, with at most so many connections; made in its event loop.

        aiohttp takes a quarter of httpx's CPU time for a request (docs/performance.md).

        Raises:
            UserError: if the file of certificate authorities cannot be read.
        """
        connector: aiohttp.BaseConnector
        if self.socket:
            connector = aiohttp.UnixConnector(
                self.socket, limit=connections, keepalive_timeout=KEEP_ALIVE_S
            )
        else:
            connector = aiohttp.TCPConnector(
                ssl=self._authorities() or True,
                limit=connections,
                keepalive_timeout=KEEP_ALIVE_S,
            )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=request_s, sock_connect=CONNECT_S),
            proxy=self.proxy,
        )

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {**key, **self.headers}

    def _authorities(self) -> ssl.SSLContext | None:
        """Who is trusted; None if no connection is encrypted, since reading them takes 50 ms."""
        if self.ca_file:
            return self._trusted()
        encrypted = [self.url, self.proxy or ""]
        return httpx.create_ssl_context() if any(map(_is_https, encrypted)) else None

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"engine.endpoint.ca_file={self.ca_file}: {error}") from error

    def refusal(
        self, response: httpx.Response, model: str = "", models: Sequence[str] = ()
    ) -> UserError:
        """The user's error behind a 4xx answer to a request for one of the server's models."""
        status, words = response.status_code, own_words(response)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return UserError(self._key_problem(status, words))
        if status == HTTPStatus.NOT_FOUND and model and model not in models:
            return UserError(
                f"engine.endpoint.model={model}: {self.url} does not serve it; "
                f"it serves {', '.join(models)}"
            )
        return UserError(f"{response.request.url}: HTTP {status}: {words}")

    def unreachable(self, error: Exception) -> UserError:
        """The user's error behind a connection that was never made."""
        if certificate := certificate_problem(error):
            return UserError(
                f"{self.place}: the server's certificate is not trusted: "
                f"{certificate}; set engine.endpoint.ca_file to the file of its authority"
            )
        return UserError(f"{self.place}: cannot connect: {reason(error)}")

    def _key_problem(self, status: int, words: str) -> str:
        if not self.api_key_env:
            what = "set engine.endpoint.api_key_env to the name of a variable that holds its key"
        elif not self.api_key:
            what = f"set the environment variable {self.api_key_env} to its key"
        else:
            what = f"check the key in the environment variable {self.api_key_env}"
        return f"{self.place}: HTTP {status}: {words}; {what}"


def _is_https(url: str) -> bool:
    return url.lower().startswith("https:")


def endpoint_of(server: Mapping[str, Any]) -> Endpoint:
    """The API of a plan's `server` argument, with the key from the environment."""
    variable = server.get("api_key_env", "")
    return Endpoint(
        url=server["url"],
        model=server.get("model", ""),
        api_key=os.environ.get(variable, ""),
        api_key_env=variable,
        headers=server.get("headers", {}),
        ca_file=server.get("ca_file"),
    )


def own_words(response: httpx.Response) -> str:
    """A server's own message in an error answer: vLLM's, FastAPI's, or the text itself."""
    try:
        said = json.loads(response.content)
    except ValueError:
        said = response.text
    if isinstance(said, dict):
        said = said.get("error", said.get("message", said.get("detail", said)))
    if isinstance(said, dict):
        said = said.get("message", said)
    words = " ".join(str(said).split())
    return words if len(words) <= WORDS else words[:WORDS] + "…"


def certificate_problem(error: BaseException) -> str:
    """OpenSSL's reason for rejecting a certificate; empty for any other error.

    httpx keeps only the text of OpenSSL's error.
    """
    found = re.search(r"certificate verify failed: (.+?)(?: \(_ssl|$)", str(error))
    return found[1] if found else ""


def reason(error: BaseException) -> str:
    """The reason of a failed connection; some of httpx's errors carry no text."""
    return str(error) or type(error).__name__
