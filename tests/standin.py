"""A runtime whose engine is made up: real lm-eval, stream, journal and worker, and no weights.

It answers from a digest of the prompt, after some steps of a few milliseconds each, and writes down
what it is asked. `make` builds the model once; a fork of that process has it ready at once.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lm_eval.models import vllm_causallms

from runner.plan import Plan
from runner.runtimes.vllm import Vllm
from runner.runtimes.vllm.models import FedVLLM

STEP_S = 0.002
LONGEST_ANSWER_STEPS = 5
# The variable that names a file. A line goes there for each question when the engine gets it, and
# one for each answer when the engine is used again: so that who has the answer has dealt with it.
TOLD = "STANDIN_TOLD"

_made: list[StandInModel] = []


class StandIn:
    """`vllm.LLM`, as far as lm-eval and the stream know it."""

    def __init__(self, **arguments: Any) -> None:
        self.llm_engine = self
        self.model_config = None
        self.vllm_config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=8))
        self._asked = 0
        self._given: list[str] = []
        self._flying: dict[str, tuple[int, Any]] = {}

    def reset_prefix_cache(self) -> None: ...

    def enqueue(
        self, prompts: Sequence[Any], sampling_params: Any, *, lora_request: Any, use_tqdm: bool
    ) -> list[str]:
        (prompt,) = prompts
        tokens = list(prompt["prompt_token_ids"])
        digest = hashlib.sha256(repr(tokens).encode()).digest()
        self._asked += 1
        _tell([f"asked {digest.hex()}"])
        steps = 1 + digest[0] % LONGEST_ANSWER_STEPS
        output = _output(str(self._asked), tokens, digest, sampling_params)
        self._flying[f"{self._asked}-standin"] = steps, output
        return [f"{self._asked}-standin"]

    def step(self) -> list[Any]:
        _tell(self._given)
        time.sleep(STEP_S)
        self._flying = {name: (left - 1, each) for name, (left, each) in self._flying.items()}
        done = [name for name, (left, _) in self._flying.items() if left == 0]
        outputs = [self._flying.pop(name)[1] for name in done]
        self._given = [f"given {output.digest}" for output in outputs]
        return outputs

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        for name in request_ids:
            self._flying.pop(name, None)


class StandInModel(FedVLLM):
    """lm-eval's `vllm` over it."""

    def resolved(self) -> dict[str, Any]:
        return {
            "architectures": ["StandIn"],
            "dtype": "float32",
            "max_model_len": self.max_length,
            "block_size": 16,
            "num_gpu_blocks": 1,
            "cudagraph_mode": "NONE",
        }


def make(plan: Plan) -> None:
    """Build the model, tokenizer and all, in this process."""
    vllm_causallms.LLM = StandIn
    vllm_causallms.resolve_hf_chat_template = lambda **arguments: None
    arguments = {k: v for k, v in plan.engine_args.items() if k != "progress"}
    _made.append(StandInModel(**arguments, progress=None))  # type: ignore[arg-type]


def check_engine_args(plan: Plan) -> None: ...


def _model(*, progress: Any, **arguments: Any) -> StandInModel:
    lm = _made[-1]
    lm.progress = progress
    return lm


MODEL_CLASSES = {"vllm": _model}


class StandInRuntime(Vllm):
    models = __name__


RUNTIME = StandInRuntime()


def _tell(lines: list[str]) -> None:
    if TOLD in os.environ and lines:
        with Path(os.environ[TOLD]).open("a", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)


def _output(name: str, tokens: list[int], digest: bytes, params: Any) -> Any:
    answer = [40 + byte % 20 for byte in digest[1 : 2 + digest[1] % 4]]
    completion = SimpleNamespace(
        text="ABC"[digest[2] % 3],
        token_ids=answer,
        logprobs=[{token: _logprob(-0.1), token + 100: _logprob(-2.5)} for token in answer],
        finish_reason="stop",
    )
    scored = None
    if params.prompt_logprobs is not None:
        scored = [None] + [
            {tokens[n]: -(zlib.crc32(repr(tokens[: n + 1]).encode()) % 1000) / 100}
            for n in range(1, len(tokens))
        ]
    return SimpleNamespace(
        request_id=name,
        digest=digest.hex(),
        finished=True,
        outputs=[completion],
        prompt_token_ids=tokens,
        prompt_logprobs=scored,
    )


def _logprob(value: float) -> Any:
    return SimpleNamespace(logprob=value)
