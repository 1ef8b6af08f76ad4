"""Check access to hubs, caches and the tracking store without fetching or creating anything."""

from __future__ import annotations

import http.client
import os
import shutil
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from runner.config import loading
from runner.config.schema import TrackingConfig
from runner.hubs import reason
from runner.preflight import store
from runner.secrecy import shown_address

TIME_LIMIT_S = 3.0
# What a proxy says in a hub's place; any other status is the hub's own answer.
NOT_THE_HUB = (403, 407)


@dataclass(frozen=True)
class Hub:
    """A hub and whether it is reachable (None: not checked)."""

    name: str
    address: str
    answers: bool | None
    detail: str


@dataclass(frozen=True)
class Cache:
    """A library's download cache."""

    name: str
    path: str
    exists: bool
    holds: int
    """Repositories or data sets in it."""
    free_bytes: int | None


@dataclass(frozen=True)
class Store:
    """The default tracking store of a run."""

    uri: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def hubs() -> list[Hub]:
    """Check both hubs in parallel, in at most three seconds."""
    from huggingface_hub import constants

    found: dict[str, Hub] = {}
    asked = [
        (
            "Hugging Face",
            constants.ENDPOINT,
            "HF_HUB_OFFLINE=1" if constants.HF_HUB_OFFLINE else "",
        ),
        ("ModelScope", _modelscope_address(), ""),
    ]

    def ask(name: str, address: str) -> None:
        answers, detail = _asked(address)
        found[name] = Hub(name, shown_address(address), answers, detail)

    threads = []
    for name, address, forbidden in asked:
        late = f"no answer within {TIME_LIMIT_S:g} s"
        found[name] = Hub(
            name,
            shown_address(address),
            None if forbidden else False,
            f"not checked: {forbidden}" if forbidden else late,
        )
        if not forbidden:
            # Not joined for ever: looking up a name has no time limit of its own.
            threads.append(threading.Thread(target=ask, args=(name, address), daemon=True))
            threads[-1].start()
    for thread in threads:
        thread.join(TIME_LIMIT_S)
    return [found[name] for name, _, _ in asked]


def caches() -> list[Cache]:
    """Return the caches of huggingface_hub, `datasets` and ModelScope."""
    from huggingface_hub import constants

    data = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    modelscope = os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    return [
        _cache("Hugging Face hub", Path(constants.HF_HUB_CACHE), ("models--*", "datasets--*")),
        _cache("data sets", Path(data), ("*___*",)),
        _cache("ModelScope", Path(modelscope), ("models/*", "datasets/*", "hub/models/*/*")),
    ]


def tracking() -> Store:
    """Check the default tracking store the way preflight does."""
    uri = loading.tracking_uri()
    shown = shown_address(uri)
    config = TrackingConfig(enabled=True, uri=uri)
    try:
        return Store(shown, tuple(store.problems(config)), tuple(store.warnings(config)))
    except ValueError as error:
        return Store(shown, (f"tracking.uri={shown}: not a valid address ({error})",), ())


def _asked(address: str) -> tuple[bool, str]:
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIME_LIMIT_S):
            return True, "answers"
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code not in NOT_THE_HUB:
            return True, "answers"
        return False, f"status {error.code} ({error.reason}), perhaps from a proxy"
    except urllib.error.URLError as error:
        return False, _why(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, _why(error)


def _why(cause: BaseException | str) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return reason(cause) if isinstance(cause, BaseException) else cause


def _modelscope_address() -> str:
    """modelscope's own variables: a domain, with or without its scheme."""
    given = os.environ.get("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
    return given if "://" in given else f"https://{given}"


def _cache(name: str, path: Path, patterns: tuple[str, ...]) -> Cache:
    path = path.expanduser()
    holds, free = 0, None
    try:
        holds = sum(entry.is_dir() for pattern in patterns for entry in path.glob(pattern))
        there = next(place for place in (path, *path.parents) if place.exists())
        free = shutil.disk_usage(there).free
    except OSError:
        pass
    return Cache(name, str(path), path.is_dir(), holds, free)
