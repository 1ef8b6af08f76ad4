"""Images as the data set holds them: who they are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def image_hash(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels: no encoding, so any mode will do."""
    digest = hashlib.sha256(f"{image.mode}{image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()
