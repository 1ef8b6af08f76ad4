"""Imports transformers' models even if the installed torchvision is of another build.

Everything in this package takes these classes from here. The workaround must run before the
import and has no effect where it is not needed.
"""

from runner.platforms.cpu import cure_this_process

cure_this_process()

from transformers import (  # noqa: E402
    AttentionInterface,
    AttentionMaskInterface,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: E402
from transformers.masking_utils import sdpa_mask  # noqa: E402
from transformers.models.qwen3_moe.modeling_qwen3_moe import (  # noqa: E402
    load_balancing_loss_func,
)

__all__ = [
    "AttentionInterface",
    "AttentionMaskInterface",
    "Qwen2_5_VLConfig",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen2_5_VLProcessor",
    "Qwen3MoeConfig",
    "Qwen3MoeForCausalLM",
    "load_balancing_loss_func",
    "sdpa_attention_forward",
    "sdpa_mask",
]
