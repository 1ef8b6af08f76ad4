"""An OpenAI-compatible API: where it is, how to reach it, and what its errors mean."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import httpx
from httpx_aiohttp import AiohttpTransport

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
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
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

    def client(self) -> httpx.Client:
        """A client for a few questions.

        Raises:
            UserError: if the file of certificate authorities cannot be read.
        """
        transport = httpx.HTTPTransport(uds=self.socket) if self.socket else None
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        return httpx.Client(**self._options(), transport=transport, timeout=timeout)

    def async_client(self, connections: int) -> httpx.AsyncClient:
        """A client with at most so many connections and no limit to an answer's time.

        aiohttp makes the connections: with httpx's own, a request takes 2.5 ms of CPU instead of
        0.7, and they reach the server one by one. A proxy is reached with httpx's.
        """
        limits = httpx.Limits(max_connections=connections, keepalive_expiry=KEEP_ALIVE_S)
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        options = self._options()
        trusted = options.get("verify", True)
        quick = AiohttpTransport(verify=trusted, limits=limits, uds=self.socket)
        options["mounts"] = dict.fromkeys((*options["mounts"], *self._without_proxy()), quick)
        if self.socket:
            options["transport"] = quick
        return httpx.AsyncClient(**options, timeout=timeout, limits=limits)

    def _without_proxy(self) -> Iterator[str]:
        """httpx's patterns for what no proxy of the environment is responsible for."""
        yield "all://*"  # proxies of the environment come before it
        host = urlsplit(self.url).hostname or ""
        if proxy_bypass(host) and ":" in host:
            yield f"all://[{host}]"
        elif proxy_bypass(host):  # twice, because httpx has a name in NO_PROXY with the asterisk
            yield from (f"all://{host}", f"all://*{host}")

    def _options(self) -> dict[str, Any]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        trusted = {"verify": self._trusted()} if self.ca_file else {}
        direct = dict.fromkeys(f"all://{host}" for host in LOOPBACK)
        return {"headers": {**key, **self.headers}, "mounts": direct, **trusted}

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
