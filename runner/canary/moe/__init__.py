"""A tiny Qwen3-MoE with its own text questions, beside the canary (docs/canary.md).

The package itself imports nothing heavy. It only defines where the shipped files are.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

WEIGHTS: Path = _HERE / "weights"
DATASET: Path = _HERE.parent / "datasets" / "canary_moe"

__all__ = ["DATASET", "WEIGHTS"]
