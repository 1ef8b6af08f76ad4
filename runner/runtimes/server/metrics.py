"""What a vLLM server did between two readings of its Prometheus metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from runner.served import ServerWork, Speculation

PREFIX = "vllm:"
# Only in `/metrics` of a server with one API process.
STARTED = "process_start_time_seconds"

ENDINGS = ("_total", "_count", "_sum")
# Settings of the KV cache, as labels of a metric whose value means nothing.
CACHE = "vllm:cache_config_info"

# Counters, and counts and sums of histograms: values by the label that their meaning depends on,
# summed over engines and models.
Counters = Mapping[str, Mapping[str, float]]
# That label, where there is one.
LABELS = {
    "vllm:request_success_total": "finished_reason",
    "vllm:spec_decode_num_accepted_tokens_per_pos_total": "position",
}


def read_counters(text: str) -> Counters:
    """vLLM's counters in the Prometheus text format.

    Raises:
        ValueError: if the text is not in that format.
    """
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            counts = sample.name.startswith(PREFIX) and sample.name.endswith(ENDINGS)
            if counts or sample.name == STARTED:
                label = sample.labels.get(LABELS.get(sample.name, ""), "")
                found[sample.name][label] += sample.value
    return found


def read_cache_settings(text: str) -> dict[str, str]:
    """The settings of the engines' KV caches, which are all alike; empty if they are not shown.

    Raises:
        ValueError: if the text is not in the Prometheus format.
    """
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == CACHE:
                return {name: value for name, value in sample.labels.items() if name != "engine"}
    return {}


def work_between(before: Counters, after: Counters) -> ServerWork:
    """The difference of two readings."""
    restarted = _restarted(before, after)

    def differences(name: str) -> dict[str, float]:
        earlier = {} if restarted else before.get(name, {})
        return {
            label: value - earlier.get(label, 0.0) for label, value in after.get(name, {}).items()
        }

    def counts(name: str) -> dict[str, int]:
        return {label: round(value) for label, value in differences(name).items()}

    def count(name: str) -> int | None:
        return sum(counts(name).values()) if name in after else None

    def mean(name: str) -> float | None:
        requests = count(f"{name}_count")
        return sum(differences(f"{name}_sum").values()) / requests if requests else None

    positions = counts("vllm:spec_decode_num_accepted_tokens_per_pos_total")
    drafts = count("vllm:spec_decode_num_drafts_total")
    return ServerWork(
        preemptions=count("vllm:num_preemptions_total"),
        prefix_queries=count("vllm:prefix_cache_queries_total"),
        prefix_hits=count("vllm:prefix_cache_hits_total"),
        prompt_tokens=count("vllm:prompt_tokens_total"),
        generation_tokens=count("vllm:generation_tokens_total"),
        finished={reason: n for reason, n in counts("vllm:request_success_total").items() if n},
        speculation=None
        if drafts is None
        else Speculation(
            drafts,
            count("vllm:spec_decode_num_draft_tokens_total") or 0,
            count("vllm:spec_decode_num_accepted_tokens_total") or 0,
            tuple(positions[place] for place in sorted(positions, key=int)),
        ),
        queued_s=mean("vllm:request_queue_time_seconds"),
        first_token_s=mean("vllm:time_to_first_token_seconds"),
        later_token_s=mean("vllm:inter_token_latency_seconds"),
        restarted=restarted,
    )


def _restarted(before: Counters, after: Counters) -> bool:
    """Whether a counter is lower than it was, or the process started later."""
    if before.get(STARTED, {}) != after.get(STARTED, {}):
        return True
    return any(
        after.get(name, {}).get(label, 0.0) < value
        for name, values in before.items()
        for label, value in values.items()
    )
