"""Fetch repositories one by one; each is listed in the manifest only when complete."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

from runner.errors import UserError
from runner.hubs import Listing, RemoteFile, huggingface, modelscope, needed
from runner.inputs import manifest
from runner.inputs.manifest import Manifest, Repository
from runner.installed import installed_version
from runner.report import terminal


@dataclass(frozen=True)
class Wanted:
    """A repository to fetch: its id on the hub, and the name by which a run will look for it."""

    id: str
    name: str
    kind: str
    hub: str
    revision: str | None
    key: str

    @property
    def directory(self) -> str:
        return f"{manifest.WEIGHTS if self.kind == 'model' else manifest.DATA}/{self.name}"


@dataclass(frozen=True)
class Planned:
    """A repository's listing, and the files that are needed."""

    wanted: Wanted
    listing: Listing
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def plan(wanted: Wanted) -> Planned:
    """List the repository on the hub and select the needed files.

    Raises:
        UserError: if it is not there, or not open to this user.
    """
    hub = modelscope if wanted.hub == "modelscope" else huggingface
    listing = hub.listing(wanted.id, wanted.kind, wanted.revision, wanted.key)
    files = needed(listing.files, wanted.kind)
    planned = Planned(wanted, listing, files)
    left_out = (listing.size - planned.size) / 1e9
    terminal.console().print(
        f"{wanted.key}={wanted.id}: {len(files)} files, {planned.size / 1e9:.2f} GB"
        + (f" ({left_out:.2f} GB not needed)" if left_out >= 0.005 else "")
    )
    return planned


def fetch(directory: Path, planned: Planned, listed: Manifest) -> Manifest:
    """Fetch one repository completely, then add it to the manifest.

    Raises:
        UserError: if it cannot be had; what was fetched of it stays, to go on from.
    """
    wanted, listing = planned.wanted, planned.listing
    before = listed.at(wanted.directory)
    now = (listing.id, listing.revision, wanted.revision)
    same = before is not None and (before.id, before.revision, before.asked) == now
    if before is not None and same and not manifest.problems(directory, before, whole=False):
        terminal.console().print(f"{wanted.id}: already fetched")
        return listed
    if before is not None:
        listed = listed.without(wanted.directory)
        manifest.write(directory, listed)
    root = directory / wanted.directory
    for path in {file.path for file in before.files} if before else ():
        if path not in {file.path for file in planned.files}:
            (root / path).unlink(missing_ok=True)  # another revision's
    hub = modelscope if wanted.hub == "modelscope" else huggingface
    terminal.console().print(f"{wanted.id}: fetching …")
    hub.download(listing, planned.files, root, wanted.key)
    repository = Repository(
        id=listing.id,
        hub=listing.hub,
        kind=listing.kind,
        revision=listing.revision,
        directory=wanted.directory,
        files=tuple(manifest.describe(root, file.path, file.sha256) for file in planned.files),
        asked=wanted.revision,
    )
    shutil.rmtree(root / ".cache", ignore_errors=True)  # the library's notes for going on
    listed = listed.having(repository)
    manifest.write(directory, listed)
    return listed


def begun() -> Manifest:
    """Return an empty manifest."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Manifest(manifest.SCHEMA, now, installed_version("ascend-accuracy-runner") or "unknown")


def refuse_strangers(directory: Path, planned: list[Planned], listed: Manifest) -> None:
    """Reject files in the target directory that don't belong to the repository."""
    problems = []
    for each in planned:
        root = directory / each.wanted.directory
        known = listed.at(each.wanted.directory)
        own = {file.path for file in each.files} | {f.path for f in (known.files if known else ())}
        strangers = sorted(set(manifest.present(root)) - own) if root.is_dir() else []
        if strangers:
            problems.append(
                f"source.dir={directory}: {root / strangers[0]}: does not belong to "
                f"{each.wanted.id}; remove it, or choose another directory"
            )
    if problems:
        raise UserError(*problems)


def refuse_links(directory: Path, planned: list[Planned], listed: Manifest) -> None:
    """Reject symbolic links below the directory: prepare would write and remove files elsewhere."""
    inside = directory.resolve()
    for each in planned:
        before = listed.at(each.wanted.directory)
        names = {f.path for f in each.files} | {f.path for f in (before.files if before else ())}
        for folder in sorted({(Path(each.wanted.directory) / name).parent for name in names}):
            if (directory / folder).resolve() != inside / folder:
                raise UserError(
                    f"source.dir={directory}: {folder}: a symbolic link to another place; replace "
                    "it with a directory, or set source.dir to the place it points to"
                )


def refuse_full_disk(directory: Path, planned: list[Planned]) -> None:
    """Reject a disk without enough free space before fetching."""
    missing = sum(
        file.size
        for each in planned
        for file in each.files
        if not (directory / each.wanted.directory / file.path).is_file()
    )
    free = shutil.disk_usage(directory).free
    if missing > free:
        raise UserError(
            f"source.dir={directory}: {missing / 1e9:.2f} GB are still to be fetched, but only "
            f"{free / 1e9:.2f} GB are free; choose another directory"
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory: two processes would overwrite each other's manifest.

    A file system without locks does not prevent fetching.

    Raises:
        UserError: if it is not writable, or another process is fetching into it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.fdopen(os.open(directory / ".prepare.lock", flags, 0o666), "w")
    except OSError as error:
        raise UserError(f"source.dir={directory}: not writable ({error.strerror})") from error
    with lock:
        free = True
        with suppress(OSError):
            free = lock_descriptor(lock.fileno(), blocking=False)
        if not free:
            raise UserError(f"source.dir={directory}: another `runner.prepare` is running there")
        yield
