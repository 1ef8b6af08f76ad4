"""The accuracy sections of a nightly file: what is asked, and what is expected.

The meaning of the keys is that of vllm-ascend's tools/aisbench.py (182b75ea84, 2026-08-22).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Dataset:
    """The task for a data set, with the metric that its gate compares and its size."""

    task: str
    metric: tuple[str, str]
    questions: int
    images: bool = False


DATASETS = {
    "aime2024": Dataset("aime24_chat", ("exact_match", "none"), 30),
    "aime2025": Dataset("aime25_chat", ("exact_match", "none"), 30),
    "gpqa": Dataset("gpqa_diamond_chat", ("exact_match", "none"), 198),
    "gsm8k": Dataset("gsm8k_chat", ("exact_match", "none"), 1319),
    "math500": Dataset("math500_chat", ("exact_match", "none"), 500),
    "mmlu-pro": Dataset("mmlu_pro_chat", ("exact_match", "none"), 12032),
    "mmmu": Dataset("mmmu_val", ("acc", "none"), 900, images=True),
    "textvqa": Dataset("textvqa_val_chat", ("exact_match", "none"), 5000, images=True),
}
LITE = "-lite"
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "repetition_penalty")
# Of a section that sets none.
TEMPERATURE, THRESHOLD = 0.6, 1
READ = (
    "case_type", "dataset_path", "dataset_conf", "request_conf", "max_out_len", "batch_size",
    "num_prompts", "baseline", "threshold", "thinking", *SAMPLING,
)  # fmt: skip
# Read by the original, but not from the file here; whose values mean nothing.
INSTEAD = {"seed": "task.gen_kwargs.seed", "trust_remote_code": "model.trust_remote_code"}
SHOTS = re.compile(r"_(\d+)_shot")


@dataclass(frozen=True)
class Gate:
    """An accuracy section: its task, how the task is asked, its baseline and its concurrency."""

    dataset: Dataset
    ask: dict[str, Any]
    baseline: dict[str, Any]
    window: int | None
    thinking: bool


def accuracy(benchmarks: Any) -> dict[str, dict[str, Any]]:
    """Return the accuracy sections by name."""
    sections = benchmarks.items() if isinstance(benchmarks, dict) else ()
    return {
        str(name): section
        for name, section in sections
        if isinstance(section, dict) and section.get("case_type") == "accuracy"
    }


def dataset_of(section: Mapping[str, Any]) -> Dataset | None:
    """Return the data set of a section; None if there is no task for it."""
    return DATASETS.get(_name(section).removesuffix(LITE))


def gate(
    section: Mapping[str, Any], where: str, problems: list[str], dropped: list[str]
) -> Gate | None:
    """Translate a section; None, with a line in `dropped`, if there is no task for it."""
    dataset = dataset_of(section)
    if dataset is None:
        known = ", ".join(DATASETS)
        dropped.append(
            f"{where}.dataset_path={section.get('dataset_path')}: not applied; there is no task "
            f"for it (only for {known})"
        )
        return None
    limit = section.get("num_prompts") or None
    lite = _name(section).endswith(LITE)
    if lite and limit is None:
        dropped.append(
            f"{where}.dataset_path={section['dataset_path']}: the subset is not known; all "
            f"{dataset.questions} questions are asked; use task.limit=… to ask fewer"
        )
    dropped += _dropped(section, where)
    return Gate(
        dataset,
        _asked(section, limit),
        _baseline(section, limit or (None if lite else dataset.questions), where, problems),
        section.get("batch_size"),
        str(section.get("thinking") or "").lower() == "true",
    )


def _asked(section: Mapping[str, Any], limit: Any) -> dict[str, Any]:
    shots = SHOTS.search(str(section.get("dataset_conf")))
    sampling = {name: section[name] for name in SAMPLING if section.get(name) is not None}
    temperature = sampling.setdefault("temperature", TEMPERATURE)
    return {
        **({"num_fewshot": int(shots[1])} if shots else {}),
        "apply_chat_template": "chat" in str(section.get("request_conf")),
        **({"limit": limit} if limit else {}),
        "max_gen_toks": section.get("max_out_len"),
        "gen_kwargs": {"do_sample": temperature != 0, **sampling},
    }


def _baseline(
    section: Mapping[str, Any], questions: int | None, where: str, problems: list[str]
) -> dict[str, Any]:
    """Points as shares: the original passes what is within the threshold on either side."""
    points = {"baseline": section.get("baseline"), "threshold": section.get("threshold", THRESHOLD)}
    for key, value in points.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            problems.append(f"{where}.{key}={value}: must be a number of points")
            return {}
    value, tolerance = (round(points[key] / 100, 8) for key in points)
    known = {"n": questions, "samples": 1} if questions else {}
    return {"value": value, **known, "tolerance": tolerance}


def _dropped(section: Mapping[str, Any], where: str) -> list[str]:
    found = []
    for key, value in section.items():
        if key in READ or (key == "ignore_eos" and not value):
            continue
        instead = f"; use {INSTEAD[key]}=… instead" if key in INSTEAD else ""
        found.append(f"{where}.{key}: not applied{instead}")
    return found


def _name(section: Mapping[str, Any]) -> str:
    return str(section.get("dataset_path")).rpartition("/")[2].lower().replace("_", "-")
