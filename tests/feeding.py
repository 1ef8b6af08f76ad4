"""python -m tests.feeding PLAN_JSON: our model class against lm-eval's own, on one engine.

Prints a JSON object: for each kind of request how many were asked, how many were answered
differently, and how many steps of the engine each side took. Started with the environment that a
worker has.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.vllm_vlms import VLLM_VLM
from PIL import Image

from runner.plan import Plan
from runner.rundir import read_json
from runner.runtimes.vllm.models import MODEL_CLASSES, FedVLLM

CHUNK, WINDOW = 8, 8


class Quiet:
    """Progress that nobody watches."""

    def enter(self, task: str) -> None: ...
    def begin(self, kind: str, total: int) -> None: ...
    def advance(self, requests: int) -> None: ...
    def beat(self, seconds_left: Any = None, tokens: Any = None) -> None: ...
    def end(self) -> None: ...


class Counted:
    """An engine whose steps are counted, and its answers kept."""

    def __init__(self, llm: Any) -> None:
        self.llm, self.steps = llm, 0
        self.answers: list[tuple[int, ...]] = []
        self._step = llm.llm_engine.step
        llm.llm_engine.step = self.step

    def step(self) -> Any:
        self.steps += 1
        outputs = self._step()
        self.answers += [tuple(o.outputs[0].token_ids) for o in outputs if o.finished]
        return outputs

    def take(self) -> tuple[int, list[tuple[int, ...]]]:
        found = self.steps, sorted(self.answers)
        self.steps, self.answers = 0, []
        self.llm.reset_prefix_cache()
        return found


def theirs(lm: FedVLLM) -> Any:
    """lm-eval's own class, with everything that ours has but for the way to the engine."""
    model = object.__new__(VLLM_VLM)
    vars(model).update(vars(lm))
    model.model = lm.stream.engine
    model.batch_size = CHUNK
    return model


def settings(random: Any, **more: Any) -> dict[str, Any]:
    length = int(random.integers(4, 65))
    return {"until": ["."], "do_sample": False, "max_gen_toks": length, **more}


def shown(random: Any, lm: FedVLLM) -> list[Instance]:
    """Questions about images of mixed sizes and modes."""
    found = []
    for number in range(24):
        size = tuple(int(side) for side in random.integers(28, 225, 2))
        mode = ("RGB", "L", "RGBA", "P", "CMYK")[number % 5]
        pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        images = [Image.fromarray(pixels).convert(mode) for _ in range(1 + number % 2)]
        text = "<image>" * len(images) + f"What is number {number} of the picture?"
        prompt = lm.apply_chat_template([{"role": "user", "content": text}])
        found.append(
            ("generate_until", (prompt, settings(random, ignore_eos=True), {"visual": images}))
        )
    return _instances(found)


def written(random: Any, lm: FedVLLM) -> list[Instance]:
    """Text alone, one prompt too long for its answer, and one group of settings beside another."""
    words = [
        "how",
        "many",
        "red",
        "circles",
        "are",
        "there",
        "left",
        "of",
        "the",
        "big",
        "blue",
        "square",
    ]
    prompts = [" ".join(random.choice(words, int(random.integers(3, 60)))) for _ in range(24)]
    prompts[5] = "red " * 2 * lm.max_length
    more = [{}, {"repetition_penalty": 1.3}]
    return _instances(
        [
            ("generate_until", (prompt, settings(random, **more[number % 2])))
            for number, prompt in enumerate(prompts)
        ]
    )


def scored(random: Any, lm: FedVLLM) -> list[Instance]:
    """Choices, one without a context and one that does not fit."""
    contexts = [" ".join(["red", "blue", "square"] * int(n)) for n in random.integers(1, 9, 8)]
    contexts += ["", "red " * 2 * lm.max_length]
    choices = (" circle", " blue square", " 7")
    return _instances(
        [("loglikelihood", (each, choice)) for each in contexts for choice in choices]
    )


def rolled(random: Any, lm: FedVLLM) -> list[Instance]:
    """Documents, one of several windows."""
    texts = ["a red circle " * int(n) for n in random.integers(1, 20, 9)]
    texts.append("how many blue squares " * lm.max_length)
    return _instances([("loglikelihood_rolling", (text,)) for text in texts])


def _instances(requests: list[tuple[Any, tuple[Any, ...]]]) -> list[Instance]:
    return [
        Instance(kind, {}, arguments, number, metadata=("t", number, 1))
        for number, (kind, arguments) in enumerate(requests)
    ]


def prompts(plan: Plan) -> dict[str, str]:
    """A conversation as each class renders it, with a template that says what it was given."""
    arguments = {k: v for k, v in plan.engine_args.items() if k != "max_images"}
    rendered = {}
    for name, model_class in MODEL_CLASSES.items():
        lm = model_class(
            **arguments,
            enable_thinking=True,
            chat_template_args={"effort": "high"},
            progress=Quiet(),
        )
        template = "{{ messages | length }}|{{ enable_thinking }}|{{ effort }}"
        lm.hf_chat_template = template
        if hasattr(lm, "processor"):
            lm.processor.chat_template = template
        rendered[name] = lm.apply_chat_template([{"role": "user", "content": "Which?"}])
    return rendered


def differ(theirs: Any, ours: Any) -> bool:
    """Whether two answers are not the same; sums of log-probabilities may differ in last digits.

    What else is in a step decides on some processors in which order a matrix is multiplied.
    """
    if isinstance(theirs, tuple):  # a log-likelihood, and whether greedy choice would take it
        return theirs[1] != ours[1] or differ(theirs[0], ours[0])
    if isinstance(theirs, float):
        return not np.isclose(theirs, ours, rtol=1e-5, atol=1e-4)
    return bool(theirs != ours)


def main() -> None:
    plan: Plan = read_json(Path(sys.argv[1]), Plan)
    lm = MODEL_CLASSES["vllm-vlm"](**plan.engine_args, progress=Quiet())
    lm.start()
    engine = Counted(lm.stream.engine)
    lm.begin(WINDOW, None)
    lm.batch_size = WINDOW
    random = np.random.default_rng(7)
    asked = {
        "images": shown(random, lm),
        "text": written(random, lm),
        "loglikelihood": scored(random, lm),
        "rolling": rolled(random, lm),
    }
    original = theirs(lm)
    report: dict[str, Any] = {}
    for name, requests in asked.items():
        kind = requests[0].request_type
        engine.take()
        expected = getattr(original, kind)(requests)
        their_steps, their_tokens = engine.take()
        found = getattr(lm, kind)(requests)
        our_steps, our_tokens = engine.take()
        ask = getattr(lm, kind)
        lm.together([(name, partial(ask, requests))], str(CHUNK), lm.chat_applied)
        chunked_steps, _ = engine.take()
        lm.together([], "auto", lm.chat_applied)
        report[name] = {
            "requests": len(requests),
            "different": sum(map(differ, expected, found)),
            "same_tokens": their_tokens == our_tokens,
            "cut": sum(any(cut for _, cut in lm.answers_to(request)) for request in requests),
            "steps": [their_steps, our_steps],
            "steps_in_chunks": chunked_steps,
            "window": lm.stream.tally.asked,
        }
    (long,) = _instances([("loglikelihood", ("one", " red" * 2 * lm.max_length))])
    ((value, greedy),) = lm.loglikelihood([long])
    ((answer, _),) = lm.answers_to(long)
    report["loglikelihood"]["too_long"] = [str(value), greedy, answer.finish_reason]
    report["text"]["prompts"] = prompts(plan)
    print("report: " + json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
