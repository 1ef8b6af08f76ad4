"""Speculative decoding of an engine in the worker's process, by vLLM's own counters."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from runner.served import Speculation

# Names of vLLM 0.23 to 0.32 (`SpecDecodingProm`).
DRAFTS = "vllm:spec_decode_num_drafts"
DRAFTED = "vllm:spec_decode_num_draft_tokens"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens"
BY_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos"


def counting(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `vllm.LLM` that turn on its counters, which are off by default.

    Empty without speculative decoding: nothing else needs them.
    """
    if not arguments.get("speculative_config") or "disable_log_stats" in arguments:
        return {}
    return {"disable_log_stats": False}


def counted(engine: Any) -> Speculation | None:
    """The counts since the engine started; None without speculative decoding or counters."""
    if not getattr(engine.llm_engine, "log_stats", False):
        return None
    metrics = engine.get_metrics()
    if all(each.name != DRAFTS for each in metrics):
        return None

    def total(name: str) -> int:
        return sum(int(each.value) for each in metrics if each.name == name)

    positions = [each.values for each in metrics if each.name == BY_POSITION]
    return Speculation(
        total(DRAFTS),
        total(DRAFTED),
        total(ACCEPTED),
        tuple(sum(each) for each in zip_longest(*positions, fillvalue=0)),
    )


def between(before: Speculation | None, after: Speculation | None) -> Speculation | None:
    """The difference of two counts; an engine may have worked for earlier runs."""
    if before is None or after is None:
        return after
    positions = zip_longest(after.by_position, before.by_position, fillvalue=0)
    return Speculation(
        after.drafts - before.drafts,
        after.drafted - before.drafted,
        after.accepted - before.accepted,
        tuple(later - earlier for later, earlier in positions),
    )
