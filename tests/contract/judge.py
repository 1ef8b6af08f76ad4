"""Two judgements of one case, and what they differ in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.contract.client import Answer
from tests.contract.grid import Case

# Whose refusal the other lacks: ours, upstream's, or one that both should have made.
WE, THEY, BOTH = "only we refuse", "only upstream refuses", "neither refuses"

# What a refusal of upstream's is about, in the words of our own configuration.
ABOUT = (
    (r"attention heads .* divisible by tensor parallel", "parallelism.tp"),
    (r"max_model_len .* is greater than", "engine.max_model_len"),
    (r"does not support float16", "engine.dtype"),
    (r"Number of experts in the model must be greater", "parallelism.ep"),
    (r"ModelSlim Quantization Config Not Found", "engine.quantization"),
    (r"quantization is currently not supported", "engine.quantization"),
    (r"Unknown quantization method", "engine.quantization"),
    # Weights that are not of that method: vllm-ascend's classes get no arguments to build from.
    (r"Ascend\w+Config.__init__\(\) missing", "engine.quantization"),
    (r"Flash Comm v1", "engine.additional_config.enable_flashcomm1"),
    (r"ASCEND_LAUNCH_BLOCKING", "ASCEND_LAUNCH_BLOCKING"),
    (r"trust_remote_code|contains custom code", "model.trust_remote_code"),
    (r"recompute_scheduler_enable", "engine.additional_config.recompute_scheduler_enable"),
    (r"layer_sharding can only", "engine.additional_config.layer_sharding"),
    (r"Xlite graph mode", "engine.additional_config.xlite_graph_config.enabled"),
)


@dataclass(frozen=True)
class Difference:
    """Who sees a problem that the other does not, on which series, with what."""

    who: str
    series: str
    about: str

    def __str__(self) -> str:
        return f"{self.series}: {self.who}: {self.about}"


@dataclass(frozen=True)
class Judged:
    """A case, what upstream says of it, and what we say."""

    case: Case
    answer: Answer
    ours: tuple[str, ...]

    def differences(self) -> set[Difference]:
        series = self.case.series
        ours, theirs = {about_ours(line) for line in self.ours}, about_theirs(self.answer)
        if theirs is not None:
            # Upstream stops at its first refusal: whether it would share our others is unknown.
            return set() if theirs in ours else {Difference(THEY, series, theirs)}
        found = {Difference(WE, series, about) for about in ours}
        computes = self.answer.facts["dtype"]
        if series == "310P" and computes == "bfloat16" and "engine.dtype" not in ours:
            found.add(Difference(BOTH, series, "engine.dtype"))
        return found


def differences(judged: Iterable[Judged]) -> dict[Difference, list[Judged]]:
    """Every difference, with the cases that show it."""
    found: dict[Difference, list[Judged]] = defaultdict(list)
    for each in judged:
        for difference in each.differences():
            found[difference].append(each)
    return dict(found)


def about_ours(line: str) -> str:
    """The key that a line of preflight begins with."""
    match = re.match(r"[\w.×]+", line)
    return match.group() if match else line


def about_theirs(answer: Answer) -> str | None:
    if answer.refused is None:
        return None
    for pattern, about in ABOUT:
        if re.search(pattern, answer.refused, re.DOTALL):
            return about
    return f"{answer.type}: {answer.refused.strip()[:200]}"
