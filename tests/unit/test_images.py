"""Thumbnails: whatever mode an image has, a small copy of it that shows the same."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from runner.lm.images import LONGEST_SIDE, Album, image_hash, opened, thumbnail, unread

PROJECT = Path(__file__).parents[2]
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"]
MODES += ["HSV", "I", "F", "I;16", "I;16L", "I;16B"]


def halves(mode: str) -> Image.Image:
    """Left black, right white, in any mode; 16 bits and floats use their whole range."""
    left_right = np.zeros((40, 60), dtype=np.uint8)
    left_right[:, 30:] = 255
    grey = Image.fromarray(left_right)
    if mode in ("I", "F"):
        return Image.fromarray(left_right.astype(np.float32 if mode == "F" else np.int32) * 1000)
    if mode.startswith("I;16"):
        wide = left_right.astype(">u2" if mode == "I;16B" else "<u2") * 257
        return Image.frombytes(mode, grey.size, wide.tobytes())
    if mode == "LAB":
        flat = Image.new("L", grey.size, 128)
        return Image.merge("LAB", (grey, flat, flat))
    if mode == "La":
        return grey.convert("LA").convert("La")
    if mode == "RGBa":
        return grey.convert("RGBA").convert("RGBa")
    if mode in ("HSV", "YCbCr", "CMYK", "RGBX"):
        return grey.convert("RGB").convert(mode)
    if mode == "PA":
        return grey.convert("P").convert("PA")
    return grey.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_drawn(mode: str) -> None:
    image = halves(mode)
    assert image.mode == mode
    drawn = Image.open(io.BytesIO(thumbnail(image))).convert("RGB")
    assert drawn.size == (60, 40)
    assert max(drawn.getpixel((10, 20))) < 30
    assert min(drawn.getpixel((50, 20))) > 225


def test_what_shines_through_is_white() -> None:
    for image in (Image.new("RGBA", (20, 20), (9, 9, 9, 0)), Image.new("LA", (20, 20), (9, 0))):
        drawn = Image.open(io.BytesIO(thumbnail(image)))
        assert drawn.mode == "RGB" and min(drawn.getpixel((5, 5))) > 250


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 960), (384, 192)),
        ((384, 20), (384, 20)),
        ((9000, 3), (384, 1)),
        ((3, 9000), (1, 384)),
    ],
)
def test_the_longest_side_is_bounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    drawn = Image.open(io.BytesIO(thumbnail(Image.new("RGB", size, "red"))))
    assert drawn.size == expected and max(drawn.size) <= LONGEST_SIDE


def test_what_cannot_be_drawn_is_empty() -> None:
    assert thumbnail(Image.new("RGB", (0, 0))) == b""


def test_numbers_that_are_none_are_drawn() -> None:
    values = np.full((20, 20), np.nan, dtype=np.float32)
    assert thumbnail(Image.fromarray(values))
    values[:, 10:] = np.inf
    values[:, :5] = 7
    assert thumbnail(Image.fromarray(values))


def test_an_image_is_another_where_its_colours_are() -> None:
    """Equal pixels, which refer to another palette, let colours through, or are to be turned."""
    red, blue = Image.new("P", (8, 8)), Image.new("P", (8, 8))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    clear = red.copy()
    clear.info["transparency"] = 0
    assert red.tobytes() == blue.tobytes() == clear.tobytes()
    upright = Image.new("RGB", (8, 8))
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    turned = Image.open(io.BytesIO(stored(upright, "PNG", exif=tags)))
    images = [red, blue, clear, upright, turned]
    assert len({image_hash(image) for image in images}) == len(images)
    tags[ExifTags.Base.Orientation] = 1
    tagged = Image.open(io.BytesIO(stored(upright, "PNG", exif=tags)))
    assert image_hash(tagged) == image_hash(upright)


def test_the_pixels_are_drawn_as_the_model_saw_them() -> None:
    """A tag that turns the picture in a browser would show what the model was not shown."""
    image, tags = Image.new("RGB", (30, 20)), Image.Exif()
    tags[0x0112] = 6
    image.info["exif"] = tags.tobytes()
    assert not Image.open(io.BytesIO(thumbnail(image))).getexif()


def test_an_album_has_every_image_once(tmp_path: Path) -> None:
    album, file = Album(), tmp_path / "images.parquet"
    album.write(file)
    assert not file.exists()
    images = [Image.new("RGB", (800, 600), "red"), Image.new("L", (20, 10))]
    assert [album.add(image) for image in [*images, *images]] == 2 * [*map(image_hash, images)]
    album.write(file)
    rows = pq.read_table(file).to_pylist()
    assert [(row["hash"], row["width"], row["height"]) for row in rows] == [
        (image_hash(image), *image.size) for image in images
    ]
    assert [Image.open(io.BytesIO(row["thumbnail"])).format for row in rows] == ["JPEG", "JPEG"]


def test_an_image_is_opened_once_for_its_hash_and_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _ = decoded(stored(Image.new("RGB", (80, 60), "green"), "PNG"))
    digest = image_hash(image)
    monkeypatch.setattr("runner.lm.images.opened", None)
    album = Album()
    assert album.add(image) == digest
    album.write(tmp_path / "images.parquet")
    (row,) = pq.read_table(tmp_path / "images.parquet").to_pylist()
    assert (row["width"], row["height"]) == (80, 60)
    drawn = Image.open(io.BytesIO(row["thumbnail"]))
    assert drawn.getpixel((40, 30)) == pytest.approx((0, 128, 0), abs=2)


@pytest.mark.parametrize("limit", [0, 100], ids=["full", "nearly full"])
def test_a_disk_that_takes_no_more_costs_the_picture(tmp_path: Path, limit: int) -> None:
    """The real limit of a process on the size of its files stands for the disk."""
    code = f"""
import io, resource, signal, sys
from pathlib import Path
from PIL import Image
from runner.lm.images import Album
album = Album()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
first, second = (Image.new("RGB", (80, 60), colour) for colour in ("red", "blue"))
hashes = [album.add(first), album.add(second)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
hashes.append(album.add(Image.new("RGB", (80, 60), "green")))
assert len(set(hashes)) == 3
album.write(Path(sys.argv[1]))
"""
    file = tmp_path / "images.parquet"
    subprocess.run([sys.executable, "-c", code, str(file)], cwd=PROJECT, check=True)
    rows = pq.read_table(file).to_pylist()
    assert [len(row["thumbnail"]) > 0 for row in rows] == [False, False, True]


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def is_read(image: Image.Image) -> bool:
    return image._im is not None


def decoded(content: bytes) -> tuple[Image.Image, Image.Image]:
    """By the runner, and by `datasets` itself."""
    feature = datasets.Image()
    value = {"bytes": content, "path": None}
    return unread(feature, value), feature.decode_example(value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_an_image_of_a_data_set_is_read_when_it_is_wanted_and_not_kept(kind: str) -> None:
    content = stored(halves("RGB"), kind)
    image, expected = decoded(content)
    assert not is_read(image)
    for _ in range(2):
        fresh = opened(image)
        assert (fresh.mode, fresh.size) == (expected.mode, expected.size)
        assert fresh.tobytes() == expected.tobytes()
        assert not is_read(image)
    assert image_hash(image) == image_hash(expected)
    Album().add(image)
    assert not is_read(image)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_says_how_to_turn_it_is_turned(kind: str) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    image, expected = decoded(stored(halves("RGB"), kind, exif=tags))
    assert image.size == expected.size == (40, 60)
    assert opened(image).tobytes() == expected.tobytes()


def test_an_image_of_a_file_and_one_in_memory_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(stored(halves("RGB"), "PNG"))
    value = {"bytes": None, "path": str(tmp_path / "a.png")}
    assert unread(datasets.Image(), value).tobytes() == halves("RGB").tobytes()
    image = halves("L")
    assert opened(image) is image


def test_a_data_set_with_a_mode_of_its_own_has_it() -> None:
    value = {"bytes": stored(halves("L"), "PNG"), "path": None}
    assert unread(datasets.Image(mode="RGB"), value).mode == "RGB"
