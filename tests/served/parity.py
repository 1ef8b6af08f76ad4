"""python -m tests.served.parity DP: the answers of `vllm serve` against the in-process engine's.

The same lm-eval requests go through the same model class twice: first into vLLM in this process,
then into a server with the same weights and settings, and DP data-parallel engines. Prints a JSON
object: for each kind of request the number of answers, how many differ in tokens, text or finish
reason, and the largest difference of a log-probability; and what the server says of itself. Started
with the environment that a worker has.
"""

from __future__ import annotations

import json
import os
import sys
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
from lm_eval.api.instance import Instance
from lm_eval.tasks.mmmu.utils import doc_to_image, doc_to_text

from runner.canary import DATASET, WEIGHTS
from runner.lm.answer import Answer
from runner.platforms.cpu import Cpu
from runner.runtimes.server.arguments import serve_arguments
from runner.runtimes.server.engine import ServedEngine
from runner.runtimes.server.expected import Expected
from runner.runtimes.server.launch import LaunchedServer, server_environment
from runner.runtimes.server.metrics import work_between
from runner.runtimes.server.requests import Requests
from runner.runtimes.server.server import server_counters, server_facts
from runner.runtimes.vllm.gate import Gate
from runner.runtimes.vllm.models import MODEL_CLASSES, FedVLLM
from tests.feeding import Quiet, rolled, scored, shown, written

WINDOW = 16
ARGUMENTS = {
    "pretrained": str(WEIGHTS),
    "max_images": 2,
    "dtype": "float32",
    "max_model_len": 1024,
    "enforce_eager": True,
}


class Conversations:
    """What the chat template was given for each prompt."""

    def __init__(self, processor: Any) -> None:
        self.of: dict[str, list[dict[str, Any]]] = {}
        self._apply = processor.apply_chat_template
        processor.apply_chat_template = self.apply

    def apply(self, history: list[dict[str, Any]], **arguments: Any) -> str:
        prompt: str = self._apply(history, **arguments)
        self.of[prompt] = deepcopy(history)
        return prompt


def canary(lm: FedVLLM, count: int) -> list[Instance]:
    """The canary's own questions, of every kind."""
    found = []
    for kind in ("colour", "compare", "count", "number", "place", "shape"):
        questions = datasets.load_dataset(str(DATASET), kind)["validation"]
        for doc in list(questions)[: count // 6 + 1]:
            prompt = lm.apply_chat_template([{"role": "user", "content": doc_to_text(doc)}])
            settings = {"until": ["<|endoftext|>"], "do_sample": False, "max_gen_toks": 32}
            found.append((prompt, settings, {"visual": doc_to_image(doc)}))
    return [
        Instance("generate_until", {}, arguments, number, metadata=("canary", number, 1))
        for number, arguments in enumerate(found)
    ]


def answers(lm: FedVLLM, requests: list[Instance]) -> tuple[list[Any], list[Answer]]:
    """What lm-eval gets for the requests, and the engine's answers behind it."""
    again = deepcopy(requests)
    got = getattr(lm, requests[0].request_type)(again)
    return got, [answer for request in again for answer, _ in lm.answers_to(request)]


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference between two answers' numbers; infinite if their lengths differ."""
    a, b = np.ravel(ours).astype(float), np.ravel(theirs).astype(float)
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.abs(a - b)[~same].max(initial=0.0))


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def launched(lm: FedVLLM, engines: int) -> LaunchedServer:
    """A server like the in-process engine, which it must not take the threads from."""
    alone = server_environment(os.environ)
    environment = {**alone, **Cpu().worker_environment(engines, alone, eager=True)}
    arguments = {**lm.model_args, "data_parallel_size": engines}
    return LaunchedServer(serve_arguments(arguments), "canary", environment)


def main() -> None:
    lm = MODEL_CLASSES["vllm-vlm"](**ARGUMENTS, progress=Quiet())
    conversations = Conversations(lm.processor)
    server = launched(lm, int(sys.argv[1]))
    lm.start()
    lm.begin(WINDOW, None)
    lm.batch_size = WINDOW
    random = np.random.default_rng(7)
    asked = {
        "canary": canary(lm, 20),
        "images": shown(random, lm),
        "text": written(random, lm),
        "loglikelihood": scored(random, lm),
        "rolling": rolled(random, lm),
    }
    local = {kind: answers(lm, requests) for kind, requests in asked.items()}

    server.wait(300)
    facts = server_facts(server.endpoint)
    requests_to_server = Requests(
        facts,
        conversation=conversations.of.get,
        expected=lambda prompt: Expected(
            lm.processor(
                text=[prompt["prompt"]],
                images=[each.convert("RGB") for each in prompt["multi_modal_data"]["image"]],
            )["input_ids"][0]
        ),
    )
    served = ServedEngine(server.endpoint, requests_to_server, connections=WINDOW)
    lm.stream.engine = served
    lm.model = Gate(served, lm.stream, lm.max_length)
    before = server_counters(server.endpoint)
    report: dict[str, Any] = {}
    for kind, requests in asked.items():
        got, remote = answers(lm, requests)
        ours, theirs = local[kind][1], remote
        pairs = list(zip(ours, theirs, strict=True))
        report[kind] = {
            "requests": len(requests),
            "answers": len(pairs),
            "tokens": sum(len(answer.token_ids) for answer in ours),
            "different": sum(
                (a.prompt_tokens, a.token_ids, a.finish_reason, a.text, a.greedy)
                != (b.prompt_tokens, b.token_ids, b.finish_reason, b.text, b.greedy)
                for a, b in pairs
            ),
            "logprobs": max((difference(a.logprobs, b.logprobs) for a, b in pairs), default=0.0),
            "margins": max((difference(a.margins, b.margins) for a, b in pairs), default=0.0),
            "scored": max(
                (difference(a.scored or 0.0, b.scored or 0.0) for a, b in pairs), default=0.0
            ),
            "results": 0.0 if isinstance(got[0], str) else difference(local[kind][0], got),
            "same_texts": got == local[kind][0] if isinstance(got[0], str) else None,
        }
    after = server_counters(server.endpoint)
    assert before is not None and after is not None
    report["server"] = asdict(work_between(before, after))
    exchanged = served.exchanged
    listed = {
        "served": [list(each) for each in exchanged.served],
        "seconds": len(exchanged.seconds),
        "speeds": len(exchanged.speeds),
        "first_tokens": len(exchanged.first_tokens.seconds),
    }
    report["exchanged"] = {**vars(exchanged), **listed}
    report["facts"] = {"version": facts.version, "model": asdict(facts.model)}
    served.close()
    family = psutil.Process().children(recursive=True)
    server.stop()
    report["left"] = [str(each) for each in family if runs(each)]
    report["socket_left"] = Path(str(server.endpoint.socket)).parent.exists()
    print("report: " + json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
