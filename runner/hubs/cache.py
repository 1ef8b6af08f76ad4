"""Find snapshots in the hub libraries' caches without contacting a hub."""

from __future__ import annotations

import os
from pathlib import Path


def cached_on_hf(repository: str, revision: str | None) -> Path | None:
    """Return the snapshot in Hugging Face's cache, complete or not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def cached_on_modelscope(repository: str, revision: str | None, kind: str = "model") -> Path | None:
    """Return the snapshot in ModelScope's cache, in any version's layout.

    1.38 and later keep `models/owner--name/snapshots/REVISION`; before that `owner/name`, with each
    dot of the name written as three underscores, below `hub` and later below `hub/models`.
    """
    owner, _, name = repository.partition("/")
    mangled = name.replace(".", "___")
    given = os.environ.get("MODELSCOPE_CACHE")
    root = Path(given).expanduser() if given else Path.home() / ".cache" / "modelscope"
    snapshots = root / f"{kind}s" / f"{owner}--{name}" / "snapshots"
    revisions = [revision] if revision else ["master", "main"]
    old = [
        base / owner / each
        for base in (root / f"{kind}s", root / "hub" / f"{kind}s", root, root / "hub")
        for each in (mangled, name)
    ]
    places = [snapshots / each for each in revisions] + old
    return next((place for place in places if place.is_dir() and any(place.iterdir())), None)
