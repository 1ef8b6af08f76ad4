"""Builds and saves the canary model: a Qwen2.5-VL of 1.7 million parameters."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer

from runner.canary import pixels
from runner.canary.library import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from runner.canary.tokens import END, PAD, save_tokenizer

TEXT_LAYERS = 4
VISION_BLOCKS = 3
HIDDEN = 128


def build_config(tokenizer: Tokenizer) -> Qwen2_5_VLConfig:
    """The model's configuration: heads of size 32, two key/value heads.

    With these sizes, the model can be split by two-way tensor parallelism.
    """

    def token(text: str) -> int:
        return int(tokenizer.token_to_id(text))

    vocabulary = -(-tokenizer.get_vocab_size() // 64) * 64
    text = {
        "hidden_size": HIDDEN,
        "intermediate_size": 256,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "default",
            "type": "default",
            "mrope_section": [4, 6, 6],
            "rope_theta": 10000.0,
        },
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": token(END),
        "pad_token_id": token(PAD),
    }
    vision = {
        "depth": VISION_BLOCKS,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 4,
        "in_channels": 3,
        "patch_size": pixels.PATCH,
        "spatial_merge_size": pixels.MERGE,
        "temporal_patch_size": 2,
        "window_size": 2 * pixels.UNIT,
        "out_hidden_size": HIDDEN,
        "fullatt_block_indexes": list(range(1, VISION_BLOCKS)),
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_model(tokenizer: Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A newly initialised model in float32.

    Every matrix starts with a standard deviation of 1/sqrt(fan-in), or less if it writes to a
    residual stream; the library's fixed 0.02 is too small for layers this narrow to learn from.
    """
    model = Qwen2_5_VLForConditionalGeneration(build_config(tokenizer))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_tokens" in name:
                parameter.normal_(std=0.08, generator=generator)
            elif parameter.ndim >= 2:
                std = parameter[0].numel() ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
                    depth = TEXT_LAYERS if "language_model" in name else VISION_BLOCKS
                    std *= (2 * depth) ** -0.5
                parameter.normal_(std=std, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
    model.generation_config.bos_token_id = None
    model.generation_config.eos_token_id = tokenizer.token_to_id(END)
    model.generation_config.pad_token_id = tokenizer.token_to_id(PAD)
    return model


def _simplify(path: Path) -> None:
    """Remove defaults that the library adds and that its older versions do not know."""
    config = json.loads(path.read_text())
    config["vision_config"].pop("rope_parameters", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def save_checkpoint(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: Tokenizer, out: Path
) -> None:
    """Write a complete local model directory, with weights in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    copy = Qwen2_5_VLForConditionalGeneration(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    _simplify(out / "config.json")
    save_tokenizer(tokenizer, out)
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
        "image_mean": list(pixels.MEAN),
        "image_std": list(pixels.STD),
        "min_pixels": pixels.MIN_PIXELS,
        "max_pixels": pixels.MAX_PIXELS,
        "patch_size": pixels.PATCH,
        "merge_size": pixels.MERGE,
        "temporal_patch_size": 2,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
