"""Writes lm-eval tasks of questions and answers for the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc"}],
}


def generated(tokens: int) -> dict[str, Any]:
    """Settings of a task whose answers have at most so many tokens."""
    return {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["."], "max_gen_toks": tokens, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }


def write_task(
    folder: Path, name: str, settings: dict[str, Any], documents: Iterable[dict[str, Any]]
) -> None:
    """Write the task and its documents, which have a `question` and an `answer`."""
    data = folder / f"{name}.jsonl"
    with data.open("w", encoding="utf-8") as lines:
        for each in documents:
            lines.write(json.dumps(each) + "\n")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        **settings,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
