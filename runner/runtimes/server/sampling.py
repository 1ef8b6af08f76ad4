"""vLLM's sampling parameters as fields of an HTTP request."""

from __future__ import annotations

from typing import Any

from runner.errors import UserError

# Sent with every request, also at vLLM's default: what a request leaves out, the server takes from
# the model's generation_config.json, which an engine in this process does not.
OF_OPENAI = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
OF_VLLM = ("top_k", "min_p", "repetition_penalty")
# Sent unless at the default, which is the server's as well.
CHOSEN = (
    "allowed_token_ids",
    "bad_words",
    "ignore_eos",
    "include_stop_str_in_output",
    "logit_bias",
    "min_tokens",
    "prompt_logprobs",
    "seed",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop",
    "stop_token_ids",
    "thinking_token_budget",
    "watermarking",
)
# Concern the way in which an engine in this process hands over its outputs, follow from other
# parameters, or are sent under other names.
ELSEWHERE = (
    "detokenize",
    "extra_args",
    "flat_logprobs",
    "logprobs",
    "max_tokens",
    "output_kind",
    "output_text_buffer_length",
    "skip_clone",
    "skip_reading_prefix_cache",
    "stream_interval",
)


def sampling_fields(params: Any, *, chat: bool, vllm: bool) -> dict[str, Any]:
    """All fields for vLLM's `SamplingParams` but max_tokens.

    Raises:
        UserError: for a parameter that differs from its default and cannot be sent.
    """
    default = type(params)()
    differing = {
        name: getattr(params, name)
        for name in params.__struct_fields__
        if not name.startswith("_") and getattr(params, name) != getattr(default, name)
    }
    if lost := sorted(differing.keys() - {*OF_OPENAI, *OF_VLLM, *CHOSEN, *ELSEWHERE}):
        raise UserError(
            f"generation_kwargs: {', '.join(f'{name}={differing[name]!r}' for name in lost)}: "
            "cannot be sent to a server"
        )
    always = (*OF_OPENAI, *OF_VLLM) if vllm else OF_OPENAI
    fields = {name: getattr(params, name) for name in always}
    fields |= {name: value for name, value in differing.items() if name not in ELSEWHERE}
    if "extra_args" in differing:
        fields["vllm_xargs"] = params.extra_args
    if params.logprobs is not None:
        shown = {"logprobs": True, "top_logprobs": params.logprobs}
        fields |= shown if chat else {"logprobs": params.logprobs}
    return fields
