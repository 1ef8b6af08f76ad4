"""A tiny Qwen2.5-VL with its own evaluation: a known result to check an inference stack with.

The package itself imports nothing heavy. It only defines where the shipped files are:

- ``WEIGHTS``: the checkpoint directory (a complete local model, about 3 MB),
- ``DATASET``: the evaluation split in MMMU's schema, one configuration per kind of question,
- ``TASKS``: the task definitions for lm-evaluation-harness (group ``canary``).
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

WEIGHTS: Path = _HERE / "weights"
DATASET: Path = _HERE / "datasets" / "canary"
TASKS: Path = _HERE / "tasks"

__all__ = ["DATASET", "TASKS", "WEIGHTS"]
