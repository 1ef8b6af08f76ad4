"""Converts an image to the vision encoder's patches, like the Qwen2-VL image processor.

Written in PIL and numpy because training calls it a hundred thousand times. A test compares it with
the processor itself.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

PATCH = 14
MERGE = 2
UNIT = PATCH * MERGE  # pixels per language-model token along one side

# The processor's limits for an image, in pixels (8 and 18 image tokens). They are small enough for
# the canary to run on a CPU, and some images of the data set are outside on either side.
MIN_PIXELS = 8 * UNIT * UNIT
MAX_PIXELS = 18 * UNIT * UNIT

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

Grid = tuple[int, int]


def fitted(width: int, height: int) -> tuple[int, int]:
    """The (width, height) that the processor resizes to: multiples of 28 within the limits."""
    wide, high = round(width / UNIT), round(height / UNIT)
    area = wide * high * UNIT * UNIT
    if area > MAX_PIXELS:
        shrink = math.sqrt(width * height / MAX_PIXELS)
        wide = max(1, math.floor(width / shrink / UNIT))
        high = max(1, math.floor(height / shrink / UNIT))
    elif area < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (width * height))
        wide = math.ceil(width * grow / UNIT)
        high = math.ceil(height * grow / UNIT)
    return wide * UNIT, high * UNIT


def patchify(image: Image.Image, resize: bool = True) -> tuple[npt.NDArray[np.float32], Grid]:
    """Resize, normalise and split one RGB image into patches.

    Returns the patches, shape (rows * columns, 3 * 14 * 14), and the grid (rows, columns) in
    patches. The four patches of one language-model token are adjacent. The processor repeats every
    patch for two time steps; here each is returned once. Without ``resize``, the image's sides must
    fit already.
    """
    size = fitted(*image.size) if resize else image.size
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    rows, columns = size[1] // PATCH, size[0] // PATCH
    blocks = pixels.reshape(rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
    blocks = blocks.transpose(0, 3, 1, 4, 6, 2, 5)  # token row, token column, 2, 2, 3, 14, 14
    return np.ascontiguousarray(blocks.reshape(rows * columns, -1)), (rows, columns)
