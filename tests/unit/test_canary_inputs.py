"""The canary's faults that are not in files: what they do to questions and batches."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from runner.canary import WEIGHTS
from runner.canary.data import questions
from runner.canary.pixels import MEAN, STD

torch = pytest.importorskip("torch")

from runner.canary.batch import Batch  # noqa: E402
from runner.canary.faults import all_faults  # noqa: E402
from runner.canary.loaded import Loaded  # noqa: E402

IMAGE = 6  # the token of an image


@pytest.fixture(scope="module")
def healthy() -> Loaded:
    return Loaded.open(WEIGHTS)


def test_image_faults_change_the_images_of_the_question() -> None:
    faults = {fault.key: fault.redraw for fault in all_faults() if fault.redraw}
    (question,) = questions("compare", 1)
    first, second = question.scenes
    swapped = faults["images-swapped-in-two-image-questions"](question)
    twice = faults["second-image-instead-of-the-first"](question)
    assert swapped.scenes == (second, first) and twice.scenes == (second, second)
    assert swapped.text == twice.text == question.text


def rewritten(name: str, healthy: Loaded) -> tuple[Batch, Batch]:
    """A batch of one question before and after the fault with this key."""
    (rewrite,) = (fault.rewrite for fault in all_faults() if fault.key == name)
    (question,) = questions("place", 1)
    batch = healthy.batch([question], [question.target])
    assert rewrite is not None
    return batch, rewrite(batch)


def test_position_faults_move_image_tokens_only(healthy: Loaded) -> None:
    before, swapped = rewritten("m-rope-rows-and-columns-swapped", healthy)
    time, rows, columns = before.positions
    assert torch.equal(swapped.positions, torch.stack((time, columns, rows)))
    image = before.ids == IMAGE
    assert not torch.equal(rows[image], columns[image])
    assert torch.equal(rows[~image], columns[~image])
    _, flat = rewritten("m-rope-to-1-d-positions", healthy)
    line = torch.arange(before.ids.shape[1])
    assert all(torch.equal(axis[0], line) for axis in flat.positions)


def test_raster_order_is_that_of_the_image(healthy: Loaded) -> None:
    before, after = rewritten("patches-in-raster-order", healthy)
    ((height, width),) = before.grids
    (question,) = questions("place", 1)
    size = (14 * width, 14 * height)
    resized = question.scenes[0].image.resize(size, Image.Resampling.BICUBIC)
    pixels = (np.asarray(resized, dtype=np.float32) / 255 - np.array(MEAN)) / np.array(STD)
    patches = [
        pixels[14 * row : 14 * row + 14, 14 * column : 14 * column + 14].transpose(2, 0, 1).ravel()
        for row in range(height)
        for column in range(width)
    ]
    wanted = torch.from_numpy(np.stack(patches)).float()
    assert torch.allclose(after.patches, wanted, atol=1e-4)
    assert not torch.allclose(before.patches, wanted, atol=1e-4)


def test_a_blank_image_is_grey(healthy: Loaded) -> None:
    _, after = rewritten("blank-image", healthy)
    pixels = after.patches.view(-1, 3, 196)
    for channel in range(3):
        values = pixels[:, channel] * STD[channel] + MEAN[channel]
        assert torch.allclose(values, torch.tensor(0.5), atol=1e-6)
