"""Faults in the settings: model configuration, image preprocessing and chat template."""

from typing import Any

from runner.canary.checkpoint import Checkpoint
from runner.canary.fault import Edit, Fault
from runner.canary.model import VISION_BLOCKS
from runner.canary.prompt import SYSTEM

KEPT = 100  # characters of a truncated text


def _text(key: str, value: Any) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        checkpoint.config["text_config"][key] = value

    return edit


def _rope_base(base: float) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        checkpoint.config["text_config"]["rope_parameters"]["rope_theta"] = base

    return edit


def _full_attention(blocks: list[int]) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        checkpoint.config["vision_config"]["fullatt_block_indexes"] = blocks

    return edit


def _default_normalisation(checkpoint: Checkpoint) -> None:
    checkpoint.preprocessor.update(image_mean=[0.5] * 3, image_std=[0.5] * 3)


def _reversed_normalisation(checkpoint: Checkpoint) -> None:
    for name in ("image_mean", "image_std"):
        checkpoint.preprocessor[name].reverse()


def _template(old: str, new: str) -> Edit:
    """Replace ``old`` in the chat template. Raises ValueError if it isn't there."""

    def edit(checkpoint: Checkpoint) -> None:
        if old not in checkpoint.template:
            raise ValueError(f"the chat template has no {old!r}")
        checkpoint.template = checkpoint.template.replace(old, new)

    return edit


def _extra_start(checkpoint: Checkpoint) -> None:
    checkpoint.template = "<|endoftext|>" + checkpoint.template


def setting_faults() -> list[Fault]:
    """The faults that change ``config.json``, ``preprocessor_config.json`` or the template."""
    ignored = "The engine ignores the checkpoint's rope_theta or reads it from another key."
    return [
        *(
            Fault(f"rope_theta times {base / 1e4:g}", ignored, _rope_base(base))
            for base in (11_000.0, 20_000.0, 100_000.0, 1_000_000.0)
        ),
        Fault(
            "RMSNorm epsilon 1e-5 to 1e-2",
            "A kernel has an epsilon of its own instead of the configuration's.",
            _text("rms_norm_eps", 1e-2),
        ),
        Fault(
            "vision: every block full attention",
            "The engine ignores the window size of the vision encoder.",
            _full_attention(list(range(VISION_BLOCKS))),
        ),
        Fault(
            "vision: every block windowed",
            "The engine ignores which blocks of the vision encoder have full attention.",
            _full_attention([]),
        ),
        Fault(
            "mean and std ignored",
            "The image processor uses its default normalisation to [-1, 1].",
            _default_normalisation,
        ),
        Fault(
            "mean and std in BGR order",
            "Images are RGB, but the normalisation constants are in BGR order.",
            _reversed_normalisation,
        ),
        Fault(
            f"question cut to its last {KEPT} characters",
            "A prompt that seems too long is truncated on the left.",
            _template("{{ part['text'] }}", f"{{{{ part['text'][-{KEPT}:] }}}}"),
        ),
        Fault(
            "no generation prompt",
            "The client doesn't ask for a generation prompt, or the template has none.",
            _template(
                "{%- if add_generation_prompt -%}\n<|im_start|>assistant\n{% endif -%}\n", ""
            ),
        ),
        Fault(
            "extra token at the start",
            "The template and the tokenizer both add a BOS token, or the model wants none.",
            _extra_start,
        ),
        Fault(
            "system message dropped",
            "The template ignores messages with the role system.",
            _template(
                "for message in messages -%}",
                "for message in messages if message['role'] != 'system' -%}",
            ),
            system=SYSTEM,
        ),
    ]
