"""transformers' Qwen2.5-VL, imported so that a torchvision of another build does no harm.

Everything in this package takes the two classes from here. The cure has to come before the import,
and does nothing where it is not needed.
"""

from runner.platforms.cpu import cure_this_process

cure_this_process()

from transformers import (  # noqa: E402
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

__all__ = ["Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"]
