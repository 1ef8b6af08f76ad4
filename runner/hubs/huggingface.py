"""The Hugging Face hub or a mirror (HF_ENDPOINT), through huggingface_hub.

The library resumes and repeats what the network breaks off, and compares sizes. What it doesn't
compare is content: `check` does, with the hash that the hub itself keeps of each file.
"""

from __future__ import annotations

import glob
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.digest import git_blob_id, whole_sha256
from runner.errors import UserError
from runner.hubs import Listing, RemoteFile, reason, refuse_outside

LIST_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 5.0


def offline() -> bool:
    """Return whether HF_HUB_OFFLINE disables access to the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def listing(
    repository: str,
    kind: str,
    revision: str | None,
    key: str,
) -> Listing:
    """Return the files of the repository at the revision (None: main branch), sizes and hashes.

    Raises:
        UserError: for a repository that isn't there or isn't open to this user, or a silent hub.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        ask = api.model_info if kind == "model" else api.dataset_info
        info = ask(repository, revision=revision, timeout=LIST_TIMEOUT_S, files_metadata=True)
        found = Listing(repository, "hf", kind, str(info.sha), _files(info.siblings or ()))
    except Exception as error:  # requests, httpx or the library's own: each release has another
        raise UserError(f"{key}={repository}: {explain(error, repository, kind)}") from error
    refuse_outside(found)
    return found


def download(found: Listing, files: Sequence[RemoteFile], directory: Path, key: str) -> None:
    """Fetch the files of a listing; complete files are not fetched again.

    Raises:
        UserError: if any file cannot be had, or isn't what the hub says it is.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # warnings show signed addresses
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        snapshot_download(
            found.id,
            repo_type=found.kind,
            revision=found.revision,
            local_dir=directory,
            allow_patterns=[glob.escape(file.path) for file in files],
            max_workers=4,
        )
    except Exception as error:
        what = explain(error, found.id, found.kind)
        raise UserError(f"{key}={found.id}: {what}. Run prepare again; it resumes from here") from (
            error
        )
    check(found, files, directory, key)


def check(found: Listing, files: Sequence[RemoteFile], directory: Path, key: str) -> None:
    """Compare fetched files with the hub's listing; remove files that differ.

    Raises:
        UserError: with the files that differ.
    """
    wrong = []
    for file in files:
        path = directory / file.path
        if not path.is_file():
            wrong.append(f"{file.path} is missing")
        elif not _same(path, file):
            size = path.stat().st_size
            said = f"{size} of {file.size} bytes" if size != file.size else "different hash"
            wrong.append(f"{file.path} differs from the hub's file ({said}) and was removed")
            path.unlink()
    if wrong:
        raise UserError(
            f"{key}={found.id}: {'; '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''}. Run "
            "prepare again; if the error persists, the hub or a proxy serves different files"
        )


def look(repository: str, revision: str | None) -> tuple[Listing, dict[str, Any]]:
    """Return a model's listing and its full config.json (the API's is shortened).

    config.json goes to a directory that is gone afterwards: in the cache it would look like a model
    without weights.
    """
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(
        repository, revision=revision, timeout=LOOK_TIMEOUT_S, files_metadata=True
    )
    found = Listing(repository, "hf", "model", str(info.sha), _files(info.siblings or ()))
    with tempfile.TemporaryDirectory(prefix="runner-config-") as scratch:
        file = hf_hub_download(
            repository,
            "config.json",
            revision=found.revision,
            local_dir=scratch,
            etag_timeout=LOOK_TIMEOUT_S,
        )
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    return found, content if isinstance(content, dict) else {}


def explain(error: BaseException, repository: str, kind: str) -> str:
    """Return what a failure means to a user, and the fix if there is one."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    token = "the token in use has no access" if get_token() else "no token is set"
    place = "" if kind == "model" else f"{kind}s/"
    page = f"{constants.ENDPOINT}/{place}{repository}"
    noun = "model" if kind == "model" else "data set"
    if isinstance(error, GatedRepoError):
        return (
            f"gated, and {token}: accept its licence at {page} with your account, and set HF_TOKEN "
            "in the environment to a token of that account"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{constants.ENDPOINT} does not have this revision"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{constants.ENDPOINT} has no such {noun}, or it is private and {token} (HF_TOKEN in "
            "the environment)"
        )
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    elif isinstance(error, EntryNotFoundError):
        return f"{constants.ENDPOINT} lists a file that it does not have ({reason(error)})"
    return f"the request to {constants.ENDPOINT} failed ({type(error).__name__}: {reason(error)})"


def _files(siblings: Sequence[Any]) -> tuple[RemoteFile, ...]:
    found = []
    for each in siblings:
        lfs = getattr(each, "lfs", None)
        sha256 = (lfs.get("sha256") if isinstance(lfs, dict) else lfs.sha256) if lfs else None
        git_id = None if lfs else getattr(each, "blob_id", None)
        found.append(RemoteFile(each.rfilename, each.size or 0, sha256, git_id))
    return tuple(found)


def _same(path: Path, file: RemoteFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is not None:
        return whole_sha256(path) == file.sha256
    return file.git_id is None or git_blob_id(path) == file.git_id
