"""Loads lm-eval's data sets from a local directory, ModelScope or the Hugging Face hub."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import datasets

from runner.config.places import DATA_SETS
from runner.config.task_files import FILE_READERS
from runner.errors import UserError, chain, out_of_space
from runner.hubs import modelscope, reason
from runner.inputs import manifest
from runner.lm.images import unread
from runner.lm.replaced import replaced

FULL_DISK = "no space left in {} (below TMPDIR) or in HF_HOME for a copy of the data set"


class NotHere(UserError):
    """A data set that is not on this machine and was not, or could not be, fetched."""


@contextmanager
def local_datasets(
    data_dir: str | None, source: str = "hf", scratch: str | None = None, fetch: bool = True
) -> Iterator[None]:
    """Make `datasets.load_dataset(ID, …)` read from `data_dir/ID`, or from `data_dir` itself.

    lm-eval's task files use hub ids; this changes where the data is read from, not what is read.
    The package's own data sets need no `data_dir`. With `source=modelscope` a data set that is not
    local is downloaded into ModelScope's cache first. ModelScope's own patch of the hub library is
    not used because it only provides single files.

    Local data, including files that a task file refers to, goes through a private cache below
    `scratch`, which is removed at the end: the shared cache can return stale data for files with
    the same names and times. Images are not decoded while loading.

    Raises:
        UserError: with the data set's id, if it cannot be loaded.
        OSError: if the disk is full.
    """
    root = Path(data_dir).expanduser() if data_dir is not None else None
    served: dict[Path, str] = {}
    original = datasets.load_dataset

    with tempfile.TemporaryDirectory(prefix="datasets-", dir=scratch) as cache:

        def load(path: str | None = None, name: str | None = None, **options: Any) -> Any:
            directory: Path | None = None
            try:
                if path not in FILE_READERS:  # these are file formats, not data sets
                    if root is None and source == "modelscope" and not fetch:
                        raise NotHere(f"data set {path} would be fetched from ModelScope")
                    directory = _directory(root, str(path), source)
                if directory is None:
                    private = {"cache_dir": cache} if _is_local(str(path), options) else {}
                    return original(path, name, **options, **private)
                other = served.setdefault(directory, str(path))
                if other != path:
                    raise UserError(
                        f"task.data_dir={root}: contains one data set, but {other} and {path} are "
                        f"needed; put each in a directory named after its id ({root}/{path})"
                    )
                return original(str(directory), name, **{**options, "cache_dir": cache})
            except UserError:
                raise
            except Exception as error:  # network, cache and file errors: the remedy is the same
                if out_of_space(error):
                    raise OSError(
                        errno.ENOSPC, FULL_DISK.format(scratch or gettempdir())
                    ) from error
                hub = directory is None and path not in FILE_READERS
                kind = NotHere if hub else UserError
                raise kind(_missing(str(path), name, directory, source, error)) from error

        with (
            replaced(datasets, "load_dataset", load),
            replaced(datasets.Image, "decode_example", unread),
        ):
            yield


def _is_local(path: str, options: Mapping[str, Any]) -> bool:
    """Whether `load_dataset` would read files of this machine."""
    if path not in FILE_READERS:
        return Path(path).exists()
    return "://" not in repr([options.get("data_files"), options.get("data_dir")])


def _directory(root: Path | None, identifier: str, source: str) -> Path | None:
    if root is None:
        if (DATA_SETS / identifier / "README.md").is_file():
            return DATA_SETS / identifier
        return modelscope.fetch_data_set(identifier) if source == "modelscope" else None
    below = root / identifier
    if below.is_dir():
        return below
    if root.name == manifest.DATA and (root.parent / manifest.NAME).is_file():
        raise UserError(
            f"source.dir={root.parent}: data set {identifier} is not in it; prepare the task there"
        )
    return root


def _missing(
    path: str, name: str | None, directory: Path | None, source: str, error: Exception
) -> str:
    what = f"{path} ({name})" if name else path
    if path in FILE_READERS:
        return f"dataset_kwargs: dataset_path={path} cannot read the files: {reason(_first(error))}"
    said = reason(error)
    if directory is not None:
        return f"data set {what} cannot be read from task.data_dir={directory}: {said}"
    if source == "modelscope":
        return (
            f"ModelScope did not return data set {what} (source.data=modelscope; {said}); it has "
            "many data sets under other ids: use source.data=hf with HF_ENDPOINT, or "
            "source.data=local"
        )
    return (
        f"data set {what} is not in the cache and could not be fetched from the hub ({said}). On a "
        f"machine with network access: `hf download --repo-type dataset {path} --local-dir DIR`, "
        "copy DIR to this machine and set task.data_dir=DIR"
    )


def _first(error: Exception) -> BaseException:
    """The original error behind one that `datasets` wrapped."""
    return list(chain(error))[-1]
