"""ModelScope, through its own client.

vLLM can ask ModelScope itself (VLLM_USE_MODELSCOPE), and then patches the hub library under
everything else in its process. With the cache that ModelScope's client keeps since 1.38 it does not
find a multimodal model's processor again. So the runner fetches, and the engine gets a directory.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.hubs import Listing, RemoteFile, huggingface, needed, reason, refuse_outside
from runner.hubs.cache import cached_on_modelscope

INSTALL = "pip install 'modelscope-hub>=0.5'"
# Left in a snapshot that was fetched whole: without it a cache may hold the half of a model.
WHOLE = ".runner-whole"


def installed() -> bool:
    """Return whether the client is installed; modelscope includes it since 1.38."""
    return importlib.util.find_spec("modelscope_hub") is not None


def listing(repository: str, kind: str, revision: str | None, key: str) -> Listing:
    """Return the files of the repository at the revision (None: master).

    Raises:
        UserError: for a repository that isn't there, or a ModelScope that doesn't answer.
    """
    try:
        found = _listing(repository, kind, revision)
    except Exception as error:
        raise UserError(_failed(key, repository, error)) from error
    refuse_outside(found)
    return found


def download(found: Listing, files: Sequence[RemoteFile], directory: Path | None, key: str) -> Path:
    """Fetch the files of a listing (None: into ModelScope's cache) and compare them with it.

    Raises:
        UserError: if any file cannot be had, or isn't what ModelScope says it is.
    """
    try:
        place = _api().download_repo(
            found.id,
            found.kind,
            revision=found.revision.partition("+")[0],
            local_dir=str(directory) if directory is not None else None,
            allow_patterns=[glob.escape(file.path) for file in files],
        )
    except Exception as error:
        raise UserError(
            f"{_failed(key, found.id, error)}. Run the same command again; it resumes from here"
        ) from error
    huggingface.check(found, files, Path(place), key)
    return Path(place)


def fetch_model(repository: str, revision: str | None, key: str) -> Path:
    """Fetch a model into ModelScope's cache; return its directory.

    Raises:
        UserError: as `listing` and `download`.
    """
    found = listing(repository, "model", revision, key)
    directory = download(found, needed(found.files, "model"), None, key)
    (directory / WHOLE).write_text(found.revision)
    return directory


def whole_in_cache(repository: str, revision: str | None) -> Path | None:
    """Return the model in ModelScope's cache if `fetch_model` has completed it."""
    directory = cached_on_modelscope(repository, revision)
    return directory if directory is not None and (directory / WHOLE).is_file() else None


def look(repository: str, revision: str | None) -> tuple[Listing, dict[str, Any]]:
    """Return a model's listing and its config.json."""
    found = _listing(repository, "model", revision)
    with tempfile.TemporaryDirectory(prefix="runner-config-") as scratch:
        file = _api().download_file(
            repository, "model", "config.json", revision=revision, local_dir=scratch
        )
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    return found, content if isinstance(content, dict) else {}


def fetch_data_set(repository: str) -> Path:
    """Return a data set in ModelScope's cache; fetch it if it is missing."""
    return Path(_api().download_repo(repository, "dataset"))


def _listing(repository: str, kind: str, revision: str | None) -> Listing:
    """ModelScope names no commit: the listing's own hash stands for it, behind the branch."""
    files = tuple(
        RemoteFile(each.path, each.size, each.sha256 or None)
        for each in _api().list_repo_files(repository, kind, revision=revision)
        if not each.is_dir
    )
    digest = hashlib.sha256(repr(sorted((f.path, f.size, f.sha256) for f in files)).encode())
    branch = revision or "master"
    return Listing(repository, "modelscope", kind, f"{branch}+{digest.hexdigest()[:16]}", files)


def _api() -> Any:
    if not installed():
        raise UserError(f"the ModelScope client is not installed: {INSTALL}")
    return importlib.import_module("modelscope_hub").HubApi()


def _failed(key: str, repository: str, error: BaseException) -> str:
    if isinstance(error, UserError):
        return f"{key}={repository}: {error}"
    return (
        f"{key}={repository}: the request to ModelScope failed ({type(error).__name__}: "
        f"{reason(error)})"
    )
