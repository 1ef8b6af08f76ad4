"""Number of questions of known tasks, which an audit needs before any run.

Each is the split that the task evaluates, as the data set's own page or paper has it.
"""

from __future__ import annotations

import math

# By lm-eval's name.
QUESTIONS = {
    "aime24": 30,
    "aime24_chat": 30,
    "aime25": 30,
    "aime25_chat": 30,
    "arc_challenge": 1172,
    "arc_easy": 2376,
    "boolq": 3270,
    "canary": 600,
    "canary_moe": 600,
    "ceval-valid": 1346,
    "ceval-valid_accountant": 49,
    "cmmlu": 11582,
    "gpqa_diamond_chat": 198,
    "gpqa_diamond_cot_n_shot": 198,
    "gpqa_diamond_cot_zeroshot": 198,
    "gpqa_diamond_generative_n_shot": 198,
    "gpqa_diamond_n_shot": 198,
    "gpqa_diamond_zeroshot": 198,
    "gsm8k": 1319,
    "gsm8k_chat": 1319,
    "gsm8k_cot": 1319,
    "gsm8k_cot_llama": 1319,
    "hellaswag": 10042,
    "hendrycks_math500": 500,
    "humaneval": 164,
    "ifeval": 541,
    "math500_chat": 500,
    "mbpp": 500,
    "minerva_math500": 500,
    "mmlu": 14042,
    "mmlu_pro_chat": 12032,
    "mmmu_val": 900,
    "openbookqa": 500,
    "piqa": 1838,
    "winogrande": 1267,
}
# A limit applies to each subtask of these, so that it does not say how many questions remain.
GROUPS = ("ceval-valid", "cmmlu", "mmlu", "mmmu_val")
# Metrics whose samples score 0 or 1 each.
BINARY = (
    "acc",
    "acc_norm",
    "exact_match",
    "math_verify",
    "pass@1",
    "pass_at_1",
    "prompt_level_loose_acc",
    "prompt_level_strict_acc",
)


def questions(task: str, limit: float | None) -> int | None:
    """Return how many questions a task asks under `task.limit`; None if that is unknown."""
    whole = QUESTIONS.get(task)
    if whole is None or limit is None:
        return whole
    if task in GROUPS:
        return None
    return min(whole, math.ceil(whole * limit) if limit < 1 else int(limit))
