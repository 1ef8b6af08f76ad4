"""Compares a window of concurrent requests with lm-eval's own batching: steps and seconds.

    python -m benchmarks.keeping_full [--requests 240]

Both sides ask one engine the same questions about images of mixed sizes: lm-eval's own class in
chunks of 32 and all at once, ours with windows of 32 and 128. Answers have a given number of
tokens. Engine steps are exact and the same on every machine. For padded seconds, every step takes
at least 25 ms, as with a large model on an accelerator; plain seconds have no padding. The engine
runs 128 requests at once.

The first part runs the engine in the process that feeds it, where every step is visible. The second
part, padded, runs the engine in a separate process, as on an accelerator.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.canary import WEIGHTS
from runner.platforms.cpu import Cpu

PROJECT = Path(__file__).parent.parent
PADDING = Path(__file__).parent / "padding"
STEP_S = 0.025
CHUNK = 32
PAIRS = (("window of 32", "chunks of 32"), ("window of 128", "all at once"))
LENGTHS = {"4 to 64 tokens": "uniform", "a fifth 128 tokens, the rest 4": "mixed"}


def environment(apart: bool) -> dict[str, str]:
    """Environment variables of a worker.

    With `apart`, the engine runs in a separate process that pads its own steps.
    """
    chosen = {**os.environ, **Cpu().worker_environment(1, eager=True)}
    chosen |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    chosen |= {"VLLM_ENABLE_V1_MULTIPROCESSING": str(int(apart)), "VLLM_NO_USAGE_STATS": "1"}
    chosen["PYTHONPATH"] += os.pathsep + str(PROJECT)
    if apart:
        chosen["PYTHONPATH"] += os.pathsep + str(PADDING)  # called by our own
        chosen |= {"PADDED_STEP_S": str(STEP_S), "PADDED_CLASS": "EngineCore"}
    return chosen


class Quiet:
    """Progress that is not reported."""

    def enter(self, task: str) -> None: ...
    def begin(self, kind: str, total: int) -> None: ...
    def advance(self, requests: int) -> None: ...
    def beat(self, seconds_left: Any = None) -> None: ...
    def end(self) -> None: ...


class Engine:
    """An engine that counts and may pad its steps, and whose answers have given lengths.

    All questions have the same settings, like those of a task: otherwise lm-eval's class would put
    the questions of each length in separate chunks.
    """

    def __init__(self, core: Any, decode: Callable[[Any], str], step_s: float = STEP_S) -> None:
        self._step_s = step_s
        self.steps, self.slept = 0, 0.0
        self.lengths: list[int] = []
        self._step, self._add, self._decode = core.step, core.add_request, decode
        core.step, core.add_request = self.step, self.add_request

    def add_request(self, name: str, prompt: Any, params: Any, **rest: Any) -> Any:
        found = re.search(r"of (\d+)\?", self._decode(prompt["prompt_token_ids"]))
        assert found is not None
        params = copy.copy(params)
        params.max_tokens = params.min_tokens = self.lengths[int(found[1])]
        return self._add(name, prompt, params, **rest)

    def step(self) -> Any:
        began = time.monotonic()
        outputs = self._step()
        rest = self._step_s - (time.monotonic() - began)
        if rest > 0:
            time.sleep(rest)
            self.slept += rest
        self.steps += 1
        return outputs


def model(**arguments: Any) -> Any:
    """The canary in our class for images."""
    from runner.runtimes.vllm.models import MODEL_CLASSES

    lm = MODEL_CLASSES["vllm-vlm"](
        pretrained=str(WEIGHTS),
        dtype="float32",
        max_model_len=1024,
        enforce_eager=True,
        max_num_seqs=128,
        progress=Quiet(),
        **arguments,
    )
    lm.start()
    return lm


def lm_evals_own(lm: Any, batch_size: int | str) -> Any:
    """lm-eval's class with all attributes of ours, but calling the engine directly."""
    from lm_eval.models.vllm_vlms import VLLM_VLM

    own = object.__new__(VLLM_VLM)
    vars(own).update(vars(lm))
    own.model, own.batch_size = lm.stream.engine, batch_size
    return own


def questions(lm: Any, number: int, sides: tuple[int, int]) -> list[Any]:
    """`number` questions, each about a noise image with sides within `sides`.

    Images are not decoded, like those of a data set.
    """
    import numpy as np
    from lm_eval.api.instance import Instance
    from PIL import Image

    random = np.random.default_rng(3)
    found = []
    for n in range(number):
        width, height = (int(side) for side in random.integers(sides[0], sides[1] + 1, 2))
        pixels = np.repeat(random.integers(0, 256, (height, width, 1), dtype=np.uint8), 3, axis=2)
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, "PNG", compress_level=1)
        image = Image.open(io.BytesIO(stored.getvalue()))
        text = "<image>What is number " + "one " * int(random.integers(1, 30)) + f"of {n}?"
        prompt = lm.apply_chat_template([{"role": "user", "content": text}])
        settings = {"do_sample": False, "until": [], "max_gen_toks": 128, "ignore_eos": True}
        arguments = (prompt, settings, {"visual": [image]})
        found.append(Instance("generate_until", {}, arguments, n, metadata=("noise", n, 1)))
    return found


def answer_lengths(kind: str, number: int) -> list[int]:
    import numpy as np

    random = np.random.default_rng(5)
    if kind == "uniform":
        return [int(length) for length in random.integers(4, 65, number)]
    return [128 if draw < 0.2 else 4 for draw in random.random(number)]


def measure(number: int, apart: bool) -> dict[str, Any]:
    # Without asynchronous scheduling, EngineCore.step covers a whole step.
    lm = model(**({"async_scheduling": False} if apart else {}))
    engine = Engine(lm.stream.engine.llm_engine, lm.tokenizer.decode, 0.0 if apart else STEP_S)
    found: dict[str, Any] = {}
    for name, kind in LENGTHS.items():
        engine.lengths = answer_lengths(kind, number)
        requests = questions(lm, number, (224, 448))
        ways: dict[str, Callable[[], list[str]]] = {
            "chunks of 32": lambda asked=requests: lm_evals_own(lm, CHUNK).generate_until(asked),
            "window of 32": lambda asked=requests: ours(lm, CHUNK, asked),
            "all at once": lambda asked=requests: lm_evals_own(lm, "auto").generate_until(asked),
            "window of 128": lambda asked=requests: ours(lm, 128, asked),
        }
        answers: list[list[str]] = []
        for way, ask in ways.items():
            lm.begin(1, None)
            lm.stream.engine.reset_mm_cache()
            engine.steps, engine.slept = 0, 0.0
            began = time.monotonic()
            answers.append(ask())
            padded = time.monotonic() - began
            fed = lm.fed()
            found.setdefault(name, {})[way] = {
                "steps": engine.steps,
                "padded_s": padded,
                "plain_s": padded - engine.slept,
                "busy": (fed.stepping or fed.queued) if "window" in way else None,
            }
            print(f"{name}, {way}: {engine.steps} steps, {padded:.1f} s padded", file=sys.stderr)
        assert all(each == answers[0] for each in answers), "answers differ"
    return found


def ours(lm: Any, window: int, requests: list[Any]) -> list[str]:
    lm.begin(window, None)
    answers: list[str] = []
    lm.together([("noise", lambda: answers.extend(lm.generate_until(requests)))], "auto", True)
    return answers


def show(found: dict[str, Any]) -> None:
    """Print the table and the ratios between both sides."""
    print("| answers | way | steps | padded, s | plain, s | in steps |\n|---|---|---|---|---|---|")
    for name, ways in found.items():
        for way, each in ways.items():
            busy = f"{each['busy']:.1%}" if each["busy"] is not None else ""
            seconds = f"{each['padded_s']:.1f} | {each['plain_s']:.1f}"
            print(f"| {name} | {way} | {each['steps']} | {seconds} | {busy} |")
    for name, ways in found.items():
        for ours, theirs in PAIRS:
            ratios = (
                f"{what} {ways[ours][key] / ways[theirs][key]:.2f}"
                for key, what in (("steps", "steps"), ("padded_s", "padded"), ("plain_s", "plain"))
            )
            print(f"{name}: {ours} / {theirs}: {', '.join(ratios)}")


def show_padded(found: dict[str, Any]) -> None:
    """Print seconds and their ratios. The steps happen in the other process and are not counted."""
    for name, ways in found.items():
        for ours, theirs in PAIRS:
            one, other = ways[ours]["padded_s"], ways[theirs]["padded_s"]
            print(f"{name}: {ours} {one:.1f} s, {theirs} {other:.1f} s: {one / other:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print("measured: " + json.dumps(measure(given.requests, given.apart)))
        return
    print("engine in the same process:")
    show(measured(given.requests, apart=False))
    print("engine in a process of its own:")
    show_padded(measured(given.requests, apart=True))


def measured(number: int, apart: bool) -> dict[str, Any]:
    """The result of `measure` in a process with the right environment."""
    command = [sys.executable, "-m", "benchmarks.keeping_full", "--measure"]
    command += ["--requests", str(number), *(["--apart"] if apart else [])]
    ended = subprocess.run(
        command, env=environment(apart), cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True
    )
    (line,) = (each for each in ended.stdout.splitlines() if each.startswith("measured: "))
    found: dict[str, Any] = json.loads(line.removeprefix("measured: "))
    return found


if __name__ == "__main__":
    main()
