"""What recording the likeliest tokens of each step costs (task.distributions): processor time.

    python -m benchmarks.distributions

One engine in this process generates the same answers of the canary with the log-probabilities of 2
and of 20 tokens a step, in turn. Processor time is hardly affected by other load on the machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from runner.canary import WEIGHTS
from runner.lm.script import CANDIDATES
from runner.platforms.cpu import Cpu, cure_this_process

ROUNDS, REQUESTS, TOKENS, PROMPT = 5, 96, 64, 40


def engine() -> Any:
    cure_this_process()
    os.environ.update(Cpu().worker_environment(1, eager=True))
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_LOGGING_LEVEL="ERROR",
        HF_HUB_OFFLINE="1",
    )
    from vllm import LLM

    return LLM(
        model=str(WEIGHTS),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=32,
        limit_mm_per_prompt={"image": 0},
    )


def seconds(llm: Any, logprobs: int, read: Callable[[Any], Any]) -> float:
    """Processor time until all answers are read, per token."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, logprobs=logprobs, max_tokens=TOKENS, ignore_eos=True)
    prompts = [
        {"prompt_token_ids": [1 + (7 * number + place) % 500 for place in range(PROMPT)]}
        for number in range(REQUESTS)
    ]
    began = time.process_time()
    for output in llm.generate(prompts, params, use_tqdm=False):
        read(output)
    return (time.process_time() - began) / (REQUESTS * TOKENS)


def main() -> None:
    llm = engine()
    from runner.runtimes.vllm.engine import LOGPROBS, generated, recorded

    seconds(llm, LOGPROBS, generated)  # the first requests also warm up
    plain, whole = [], []
    for _ in range(ROUNDS):
        plain.append(seconds(llm, LOGPROBS, generated))
        whole.append(seconds(llm, CANDIDATES, recorded))
    ratios = [more / less for less, more in zip(plain, whole, strict=True)]
    for logprobs, times in ((LOGPROBS, plain), (CANDIDATES, whole)):
        print(f"{logprobs} tokens a step: {1e6 * statistics.median(times):.0f} µs per token")
    print(
        f"ratio: {statistics.median(ratios):.2f} (median of {ROUNDS} pairs, {min(ratios):.2f} to "
        f"{max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
