"""The manifest of a prepared directory, and a check of its files.

A repository is named in the manifest only after every file of it was fetched and checked. So what
the manifest names is whole, and what it doesn't name is unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.digest import sampled_sha256, side_by_side, whole_sha256
from runner.errors import UserError
from runner.hubs import leads_outside
from runner.rundir import read_json, write_json

NAME = "manifest.json"
SCHEMA = 1
WEIGHTS, DATA = "weights", "data"
NAMED_AT_MOST = 3


@dataclass(frozen=True)
class File:
    """A fetched file; `sampled` is set only if the file is too large to hash completely."""

    path: str
    size: int
    sha256: str
    sampled: str | None = None


@dataclass(frozen=True)
class Repository:
    """One model or data set: its identity on the hub, and its files below `directory`.

    `revision` is the commit; `asked` is what the configuration called it (null: the main branch).
    """

    id: str
    hub: str
    kind: str
    revision: str
    directory: str
    files: tuple[File, ...]
    asked: str | None = None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Manifest:
    """The prepared directory: its repositories, and the data sets that each task name needs."""

    schema: int
    created: str
    runner: str
    repositories: tuple[Repository, ...] = ()
    tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def at(self, directory: str) -> Repository | None:
        """Return the repository in the directory (relative, as `weights/owner/name`)."""
        return next((each for each in self.repositories if each.directory == directory), None)

    def having(self, repository: Repository) -> Manifest:
        """Return a manifest with the repository in place of the former one in its directory."""
        others = self.without(repository.directory).repositories
        return replace(self, repositories=(*others, repository))

    def without(self, directory: str) -> Manifest:
        kept = tuple(each for each in self.repositories if each.directory != directory)
        return replace(self, repositories=kept)


def read(directory: Path) -> Manifest | None:
    """Return the directory's manifest; None if there is none.

    Raises:
        UserError: if it is there and cannot be used.
    """
    file = directory / NAME
    if not file.is_file():
        return None
    try:
        manifest: Manifest = read_json(file, Manifest)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"source.dir={directory}: {NAME} cannot be read ({reason}): run prepare again"
        ) from error
    if manifest.schema != SCHEMA:
        raise UserError(
            f"source.dir={directory}: {NAME} has schema {manifest.schema}, but this runner reads "
            f"{SCHEMA}; prepare the directory again with this version of the runner"
        )
    for path in _places(manifest):
        if leads_outside(path):
            raise UserError(
                f"source.dir={directory}: {NAME} lists a file outside the directory ({path!r}), "
                "which prepare never writes; copy the directory again from where it was prepared"
            )
    return manifest


def _places(manifest: Manifest) -> Iterator[str]:
    for repository in manifest.repositories:
        top, _, rest = repository.directory.partition("/")
        yield rest if top in (WEIGHTS, DATA) else f"../{repository.directory}"
        yield from (file.path for file in repository.files)


def write(directory: Path, manifest: Manifest) -> None:
    write_json(directory / NAME, manifest)


def describe(root: Path, path: str, sha256: str | None) -> File:
    """Return a fetched file's manifest entry; the hash is computed if it is unknown."""
    file = root / path
    return File(path, file.stat().st_size, sha256 or whole_sha256(file), sampled_sha256(file))


def problems(directory: Path, repository: Repository, whole: bool) -> list[str]:
    """Return a line for files that are missing, extra, changed, or of another size.

    Names and sizes are compared first: what they show needs no reading.
    """
    root = directory / repository.directory
    named = {file.path: file for file in repository.files}
    there = set(present(root))
    missing = sorted(set(named) - there)
    more = sorted(there - set(named))
    cut = sorted(
        path for path in set(named) & there if (root / path).stat().st_size != named[path].size
    )
    changed = [] if missing or cut else sorted(_changed(root, named.values(), whole))
    found = []
    for paths, what, cure in (
        (missing, "missing", "copy the directory again"),
        (cut, "size differs from the manifest", "copy the directory again"),
        (changed, "content differs from the manifest (different hash)", "copy the directory again"),
        (more, "not in the manifest", "remove files that prepare did not write"),
    ):
        if paths:
            found.append(f"source.dir={directory}: {_named(root, paths)}: {what}; {cure}")
    return found


def present(root: Path) -> Iterator[str]:
    """Yield the files below a repository's directory, without hidden ones."""
    for file in root.rglob("*"):
        path = file.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
        if not hidden and file.is_file():
            yield path.as_posix()


def _changed(root: Path, files: Iterable[File], whole: bool) -> Iterator[str]:
    def same(file: File) -> bool:
        if whole or file.sampled is None:
            return whole_sha256(root / file.path) == file.sha256
        return sampled_sha256(root / file.path) == file.sampled

    listed = list(files)
    with side_by_side() as pool:
        for file, unchanged in zip(listed, pool.map(same, listed), strict=True):
            if not unchanged:
                yield file.path


def _named(root: Path, paths: list[str]) -> str:
    names = ", ".join(str(root / path) for path in paths[:NAMED_AT_MOST])
    left = len(paths) - NAMED_AT_MOST
    return f"{names} and {left} more" if left > 0 else names
