"""Smallest and largest possible scores of lm-eval's metrics that are means of samples' scores.

Metrics of a whole corpus, such as perplexity, `bleu` and `chrf`, have no scores of samples.
Sources: lm_eval/api/metrics.py, and lm_eval/tasks/truthfulqa/utils.py for scores from 0 to 100.
"""

from __future__ import annotations

_SHARES = (
    "acc", "acc_norm", "acc_bytes", "acc_mutual_info", "acc_all", "exact_match", "em",
    "bleu_acc", "rouge1_acc", "rouge2_acc", "rougeL_acc", "acceptance_rate",
)  # fmt: skip
_OUT_OF_100 = ("bleu", "rouge1", "rouge2", "rougeL")

# By metric: smallest and largest score.
LIMITS: dict[str, tuple[float, float]] = {
    **{metric: (0.0, 1.0) for metric in _SHARES},
    **{f"{metric}_max": (0.0, 100.0) for metric in _OUT_OF_100},
    **{f"{metric}_diff": (-100.0, 100.0) for metric in _OUT_OF_100},
}
