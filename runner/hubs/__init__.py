"""List and fetch repositories of the Hugging Face hub and ModelScope."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from runner.errors import UserError

# In the order in which an engine prefers them; of what comes later it reads nothing.
WEIGHT_FORMATS = (".safetensors", ".bin", ".pt")
OTHER_FORMATS = (".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".tflite", ".mlmodel")
# Copies of the same weights for other programs (Llama, gpt-oss, exports).
OTHER_FOLDERS = ("original", "metal", "onnx", "openvino", "coreml", "gguf", "checkpoints")
SHARDED = re.compile(r"model-\d+-of-\d+\.safetensors|model\.safetensors")


@dataclass(frozen=True)
class RemoteFile:
    """A file as its hub describes it, with at most one of the two hashes."""

    path: str
    size: int
    sha256: str | None = None
    git_id: str | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one revision, before fetching."""

    id: str
    hub: str
    kind: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def needed(files: tuple[RemoteFile, ...], kind: str) -> tuple[RemoteFile, ...]:
    """Return the files that an engine reads: no hidden files, no second copies of the weights."""
    seen = [file for file in files if not _hidden(file.path)]
    if kind == "dataset":
        return tuple(seen)
    names = {file.path for file in seen}
    present = [each for each in WEIGHT_FORMATS if any(name.endswith(each) for name in names)]
    unread = (*present[1:], *OTHER_FORMATS)
    doubled = any(SHARDED.fullmatch(name) for name in names)
    return tuple(
        file
        for file in seen
        if not file.path.endswith(unread)
        and PurePosixPath(file.path).parts[0] not in OTHER_FOLDERS
        and not (doubled and re.match(r"consolidated.*\.safetensors", file.path))
    )


def weight_bytes(files: tuple[RemoteFile, ...]) -> int | None:
    """Return the size of the weights in bytes; None if the hub gives no sizes."""
    size = sum(file.size for file in needed(files, "model") if file.path.endswith(WEIGHT_FORMATS))
    return size or None


def refuse_outside(listing: Listing) -> None:
    """Reject a listing with a file name that leads outside the directory."""
    for file in listing.files:
        if leads_outside(file.path):
            raise UserError(
                f"{listing.id}: the hub lists a file outside the repository ({file.path!r})"
            )


def leads_outside(path: str) -> bool:
    """Return whether a name from a file or a hub leads outside its directory."""
    plain = PurePosixPath(path)
    strange = any(character in path for character in "\\\0")
    return strange or not plain.parts or plain.is_absolute() or ".." in plain.parts


def reason(error: BaseException) -> str:
    """Return an error's first line without credentials and signed addresses."""
    text = (str(error).strip() or repr(error)).splitlines()[0]
    text = re.sub(r"//[^/@\s]+@", "//…@", text)
    return re.sub(r"\?[^\s'\")]+", "", text)


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts)
