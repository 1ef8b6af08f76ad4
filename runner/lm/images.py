"""Images of a data set: content hashes, and thumbnails for reports."""

from __future__ import annotations

import hashlib
import io
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ExifTags, Image

from runner.rundir import write_atomic

_decode = datasets.Image.decode_example
# Cached `image_hash` of each image, by its `_stored` hash.
_hashes: dict[bytes, str] = {}
UPRIGHT = 1  # EXIF orientation of an image that needs no rotation
# Large enough to see what a question is about. The image itself stays in the data set.
LONGEST_SIDE = 384
# Single-channel modes whose scale varies: 16-bit scans, depth maps, floats.
UNSCALED_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")

SCHEMA = pa.schema(
    [
        ("hash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("thumbnail", pa.binary()),
    ]
)


def image_hash(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels, so it does not depend on the file format.

    Palette colours and the EXIF orientation are included.
    """
    stored = getattr(image, "stored", None) or _stored(image)
    if stored is not None and stored in _hashes:
        return _hashes[stored]
    image = opened(image)
    turn = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    said = f"{image.mode}{image.size}" + (f"turned {turn}" if turn != UPRIGHT else "")
    digest = hashlib.sha256(said.encode())
    refers = "P" in image.mode or "transparency" in image.info
    digest.update((image.convert("RGBA") if refers else image).tobytes())
    if stored is not None:
        _hashes[stored] = digest.hexdigest()
        _copies.keep(digest.hexdigest(), image)  # decoding it again would take longer than the rest
    return digest.hexdigest()


def _stored(image: Image.Image) -> bytes | None:
    """SHA-256 of an image's file content; None if the content is no longer available.

    A key for the cache: hashing the file is about twenty times as fast as decoding the image again.
    """
    held = getattr(image, "fp", None)
    if not isinstance(held, io.BytesIO) or held.closed:
        return None
    return hashlib.sha256(held.getvalue()).digest()


def opened(image: Image.Image) -> Image.Image:
    """A decoded copy of the image, which the caller can drop to free its pixels.

    Pillow keeps the pixels of a decoded image for as long as the image lives, and lm-eval keeps the
    images of all samples.
    """
    stored = _stored(image)
    if stored is None:
        return image
    fresh = Image.open(io.BytesIO(image.fp.getvalue()))
    fresh.load()
    fresh.stored = stored
    return fresh


def unread(self: Any, value: Any, token_per_repo_id: Any = None) -> Any:
    """Replacement for `datasets.Image.decode_example` that does not decode the pixels.

    `opened` decodes them later. Images that need rotation or another mode are decoded at once.
    """
    content = value.get("bytes") if isinstance(value, dict) else None
    if content is None:
        return _decode(self, value, token_per_repo_id)
    image = Image.open(io.BytesIO(content))
    # PNG's own getexif would decode the pixels first, because this chunk may come after them.
    turned = b"eXIf" in content if image.format == "PNG" else False
    turned = turned or Image.Image.getexif(image).get(ExifTags.Base.Orientation) is not None
    if turned or (self.mode and self.mode != image.mode):
        return _decode(self, value, token_per_repo_id)
    return image


class _Copies:
    """Thumbnails of the images that this process has opened, by `image_hash`.

    They are kept on disk because they are made while the engine runs, when memory must not grow
    with the number of answers.
    """

    def __init__(self) -> None:
        self._file: io.FileIO | None = None
        self._places: dict[str, tuple[int, int]] = {}

    def keep(self, digest: str, image: Image.Image) -> None:
        """Save a thumbnail once. If the disk is full, the run continues without the thumbnail."""
        if digest in self._places:
            return
        copy, place, written = thumbnail(image), 0, 0
        with suppress(OSError):
            if self._file is None:  # unlinked at once: nothing remains if the worker is killed
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            place = self._file.seek(0, io.SEEK_END)
            written = self._file.write(copy)
        self._places[digest] = (place, len(copy) if written == len(copy) else 0)

    def has(self, digest: str) -> bool:
        return digest in self._places

    def read(self, digest: str) -> bytes:
        place, size = self._places[digest]
        if self._file is None or not size:
            return b""
        self._file.seek(place)
        return self._file.read(size)


_copies = _Copies()


class Album:
    """Thumbnails of all images that a run has shown, each one once, by `image_hash`."""

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, int]] = {}

    def add(self, image: Image.Image) -> str:
        """Make sure that a thumbnail of the image exists; returns the image's hash."""
        digest = image_hash(image)
        if not _copies.has(digest):
            _copies.keep(digest, opened(image))
        self._sizes[digest] = image.size
        return digest

    def write(self, file: Path) -> None:
        """Replace the file atomically. A run without images writes no file."""
        if not self._sizes:
            return
        rows = [
            {"hash": digest, "width": width, "height": height, "thumbnail": _copies.read(digest)}
            for digest, (width, height) in self._sizes.items()
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="none")
        write_atomic(file, sink.getvalue().to_pybytes())


def thumbnail(image: Image.Image) -> bytes:
    """JPEG of at most 384 pixels per side; empty if the image cannot be converted.

    WebP would be smaller, but took up to fourteen times the CPU time (224 pixels, noise: 4.4 ms
    against 0.3 ms), which is noticeable in a run of small images.
    """
    scale = min(1.0, LONGEST_SIDE / max(*image.size, 1))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    drawn = io.BytesIO()
    try:
        plain = _plain(image)
        small = plain.resize(size, reducing_gap=2.0) if scale < 1 else plain
        # Drop the file's own tags: the model has seen the pixels without them.
        small.save(drawn, "JPEG", quality=80, exif=b"", icc_profile=None)
    except (OSError, ValueError, MemoryError):
        return b""
    return drawn.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """The image in RGB, whatever its mode; transparent areas become white."""
    if image.mode == "RGB":
        return image
    if image.mode in UNSCALED_MODES:
        return _scaled(image).convert("RGB")
    if image.mode == "LAB":  # Pillow needs a colour profile for LAB; lightness will do
        return image.getchannel("L").convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """The image with its darkest value as black and its brightest as white.

    Pillow would clip at 255.
    """
    values = np.asarray(image, dtype=np.float64)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    shades = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return Image.fromarray((shades * 255).astype(np.uint8))
