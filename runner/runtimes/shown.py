"""Converts an image to what vLLM shows the model in-process, for engines that would differ."""

from __future__ import annotations

from contextlib import suppress

from PIL import Image, ImageOps


def as_vllm_shows(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF tag, on white where it is transparent, in RGB.

    Source: vllm 0.32.0 (multimodal/parse.py, image.py). Hugging Face's image processors drop the
    alpha channel instead, which reveals the colour under it; many of MMMU's images have one.
    """
    upright = image
    with suppress(Exception):  # like vLLM: an unreadable orientation is ignored
        upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB":  # even if one of its colours stands for transparency
        return upright
    if upright.mode not in ("RGBA", "LA", "PA") and "transparency" not in upright.info:
        return upright.convert("RGB")
    layered = upright.convert("RGBA")
    white = Image.new("RGB", layered.size, (255, 255, 255))
    white.paste(layered, mask=layered.getchannel("A"))
    return white
