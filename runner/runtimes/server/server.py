"""What a server says of itself, asked before a run and after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, TypeVar

import httpx

from runner.config.usage import suggestion
from runner.errors import UserError
from runner.runtimes.server.answers import TOKEN_ID
from runner.runtimes.server.endpoint import CHAT, COMPLETIONS, Endpoint
from runner.runtimes.server.metrics import Counters, read_cache_settings, read_counters

VLLM = "vllm"
PATHS = (COMPLETIONS, CHAT)


@dataclass(frozen=True)
class ServedModel:
    """An entry of `/v1/models`. `root` are its weights, `parent` the base model of an adapter."""

    id: str
    root: str | None = None
    max_model_len: int | None = None
    parent: str | None = None
    owned_by: str | None = None


@dataclass(frozen=True)
class ServerFacts:
    """A server's own account of itself.

    `version`, `cache` (the settings of the KV cache) and `fields` (the fields of a request by its
    path) are None or empty if it does not tell.
    """

    url: str
    version: str | None
    model: ServedModel
    models: tuple[ServedModel, ...]
    cache: dict[str, str] = field(default_factory=dict)
    fields: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def vllm(self) -> bool:
        """Whether the server is vLLM."""
        return self.model.owned_by == VLLM


def server_facts(endpoint: Endpoint) -> ServerFacts:
    """Ask a server what it is and which model it serves.

    Raises:
        UserError: if it cannot be reached, rejects the key, is no OpenAI-compatible server, or does
            not serve the model.
    """
    with endpoint.client() as client:
        models = _models(endpoint, client)
        model = _recognized(endpoint, client, _chosen(endpoint, models))
        version = _optional(client, endpoint.root("/version"))
        metrics = _optional(client, endpoint.root("/metrics"))
        schema = _optional(client, endpoint.root("/openapi.json"))
    said = _json(version)
    return ServerFacts(
        endpoint.url,
        said.get("version") if isinstance(said, dict) else None,
        model,
        models,
        _read(read_cache_settings, metrics) or {},
        _fields(_json(schema)),
    )


def check_unchanged(endpoint: Endpoint, then: ServerFacts) -> None:
    """Compare what the server says now with what it said when it was first asked.

    Raises:
        UserError: if it has another version or model.
    """
    before, now = _named(then), _named(server_facts(endpoint))
    if before != now:
        raise UserError(
            f"{endpoint.place}: the server was replaced: it served {before}, and serves {now} now; "
            "start this run again"
        )


def _named(facts: ServerFacts) -> str:
    model = facts.model
    said = {"version": facts.version, "root": model.root, "max_model_len": model.max_model_len}
    told = ", ".join(f"{name} {text}" for name, text in said.items() if text is not None)
    return f"{model.id} ({told})" if told else model.id


def tells_logprobs(endpoint: Endpoint, model: str) -> bool:
    """Whether the server gives the log-probabilities of tokens by id. Asks for one token."""
    body = {"logprobs": 1, "return_tokens_as_token_ids": True}
    with endpoint.client() as client:
        choice = _first_choice(endpoint, client, model, body)
    tokens = (choice.get("logprobs") or {}).get("tokens") or []
    return bool(tokens) and all(str(token).startswith(TOKEN_ID) for token in tokens)


def _first_choice(
    endpoint: Endpoint, client: httpx.Client, model: str, fields: dict[str, Any]
) -> dict[str, Any]:
    """The answer to a prompt of one letter, of one token; empty if there is none."""
    body = {"model": model, "prompt": "A", "max_tokens": 1, **fields}
    try:
        answer = _json(client.post(endpoint.api(COMPLETIONS), json=body))
        return dict(answer["choices"][0])
    except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError):
        return {}


def server_counters(endpoint: Endpoint) -> Counters | None:
    """The server's counters now; None if it shows none."""
    with endpoint.client() as client:
        response = _optional(client, endpoint.root("/metrics"))
    return _read(read_counters, response) or None


Read = TypeVar("Read")


def _read(reader: Callable[[str], Read], metrics: httpx.Response | None) -> Read | None:
    """What a reader finds in metrics; None if there are none, or in another format."""
    try:
        return None if metrics is None else reader(metrics.text)
    except ValueError:
        return None


def _models(endpoint: Endpoint, client: httpx.Client) -> tuple[ServedModel, ...]:
    url = endpoint.api("/models")
    try:
        response = client.get(url)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise UserError(f"{endpoint.place}: not a URL: {error}") from error
    except httpx.HTTPError as error:
        raise endpoint.unreachable(error) from error
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise endpoint.refusal(response)
    absent = response.status_code == HTTPStatus.NOT_FOUND
    if absent and endpoint.model and _first_choice(endpoint, client, endpoint.model, {}):
        return (ServedModel(endpoint.model),)  # a proxy that passes on prompts alone
    listed = _json(response)
    try:
        if response.status_code != HTTPStatus.OK:
            raise ValueError(f"HTTP {response.status_code}")
        return tuple(_model(each) for each in listed["data"])
    except (ValueError, TypeError, KeyError) as error:
        what = str(error) if isinstance(error, ValueError) else "not a list of models"
        hint = "" if endpoint.url.rstrip("/").endswith("/v1") else "; the URL should end in /v1"
        raise UserError(
            f"{endpoint.place}: not an OpenAI-compatible server: {url} answers {what}{hint}"
        ) from error


def _model(card: dict[str, Any]) -> ServedModel:
    return ServedModel(
        str(card["id"]),
        card.get("root"),
        card.get("max_model_len"),
        card.get("parent"),
        card.get("owned_by"),
    )


def _recognized(endpoint: Endpoint, client: httpx.Client, model: ServedModel) -> ServedModel:
    """The model as vLLM's if the answers are vLLM's: a proxy may name another owner, or none."""
    if model.owned_by == VLLM:
        return model
    choice = _first_choice(endpoint, client, model.id, {"return_token_ids": True})
    return replace(model, owned_by=VLLM) if choice.get("prompt_token_ids") is not None else model


def _chosen(endpoint: Endpoint, models: tuple[ServedModel, ...]) -> ServedModel:
    """The configured model, or the only one that is not an adapter."""
    names = tuple(model.id for model in models)
    if endpoint.model:
        found = next((model for model in models if model.id == endpoint.model), None)
        if found is None:
            raise UserError(
                f"engine.endpoint.model={endpoint.model}: {endpoint.url} does not serve it; "
                f"it serves {', '.join(names) or 'no model'}."
                f"{suggestion(endpoint.model, names)}"
            )
        return found
    bases = [model for model in models if model.parent is None]
    aliases = {model.root or model.id for model in bases}  # vLLM lists every name of its model
    if len(aliases) != 1:
        raise UserError(
            f"{endpoint.place}: serves {', '.join(names) or 'no model'}; "
            "choose with engine.endpoint.model=NAME"
        )
    return bases[0]


def _fields(schema: Any) -> dict[str, frozenset[str]]:
    """The fields of each kind of request in an OpenAPI description; empty if it is none."""
    found = {}
    for path in PATHS:
        with suppress(KeyError, TypeError, AttributeError):
            (content,) = schema["paths"][f"/v1{path}"]["post"]["requestBody"]["content"].values()
            name = content["schema"]["$ref"].rpartition("/")[2]
            found[path] = frozenset(schema["components"]["schemas"][name]["properties"])
    return found


def _optional(client: httpx.Client, url: str) -> httpx.Response | None:
    """The answer of a path that only vLLM has."""
    try:
        response = client.get(url)
    except httpx.HTTPError:
        return None
    return response if response.status_code == HTTPStatus.OK else None


def _json(response: httpx.Response | None) -> Any:
    try:
        return json.loads(response.content) if response is not None else None
    except ValueError:
        return None
