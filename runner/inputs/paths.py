"""Local files that settings name: adapters, draft models, templates, tables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.digest import digest_path

# Settings that say where to put something, or what may be read: their content is no input.
PLACES = re.compile(r"(?i).*(cache|log|profil|dump|trace|download|offload|output|allowed|socket).*")


def absolute(path: str | None) -> str | None:
    """A local path as an absolute path; a hub id unchanged."""
    if path is None or not Path(path).expanduser().exists():
        return path
    return str(Path(path).expanduser().resolve())


def local_paths(settings: Any) -> Iterator[str]:
    """Yield each text in nested settings that is the path of a local file or directory."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if not PLACES.fullmatch(str(key)):
                yield from local_paths(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from local_paths(value)
    elif isinstance(settings, str) and settings and os.path.exists(os.path.expanduser(settings)):
        yield settings


def contents(settings: Any) -> dict[str, str]:
    """Return the digest of the content for each such path."""
    return {path: digest_path(Path(path).expanduser()) for path in set(local_paths(settings))}


def by_content(settings: Any, digests: Mapping[str, str]) -> Any:
    """Return the settings with each path replaced by a digest, independent of location."""
    if isinstance(settings, Mapping):
        return {key: by_content(value, digests) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [by_content(value, digests) for value in settings]
    return digests.get(settings, settings) if isinstance(settings, str) else settings
