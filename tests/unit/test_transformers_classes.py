"""lm-eval's transformers classes as we run them, on the canary's weights, in this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from runner.canary import WEIGHTS
from runner.errors import UserError
from runner.platforms.cpu import cure_this_process

cure_this_process()  # before transformers looks for torchvision

from lm_eval.api.instance import Instance  # noqa: E402

from runner.lm.answer import TOO_LONG  # noqa: E402
from runner.runtimes.hf.models import RecordedHFMultimodal  # noqa: E402

LONG = 90
ASKED = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|> What colour is the shape?\n\n"
    "(A) red\n(B) blue\n\nAnswer with the option's letter from the given choices directly."
    "<|im_end|>\n<|im_start|>assistant\n"
)


class Heard:
    """A progress that counts."""

    def __init__(self) -> None:
        self.done = self.beats = 0

    def enter(self, task: str) -> None: ...

    def begin(self, kind: str, total: int) -> None:
        self.done = 0

    def advance(self, requests: int) -> None:
        self.done += requests

    def beat(self, seconds_left: Any = None, tokens: Any = None) -> None:
        self.beats += 1

    def end(self) -> None: ...


@pytest.fixture(scope="module")
def loaded() -> Iterator[RecordedHFMultimodal]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lm = RecordedHFMultimodal(
        pretrained=str(WEIGHTS), device="cpu", dtype="float32", max_images=2, progress=Heard()
    )
    lm.start()
    yield lm
    torch.set_num_threads(threads)


@pytest.fixture
def lm(loaded: RecordedHFMultimodal) -> RecordedHFMultimodal:
    """With room for LONG tokens, and nothing asked."""
    loaded.begin(None, None)
    loaded.forget()
    loaded._max_length = LONG
    loaded.chat_applied = True
    loaded.batch_size = 8
    return loaded


def seen(number: int, prompt: str = ASKED, size: int = 60, **settings: Any) -> Instance:
    """A question about an image of one colour."""
    image = Image.new("RGB", (size, size), (255 - 40 * number, 40 * number, 0))
    return instance(number, (prompt, {"max_gen_toks": 8, **settings}, {"visual": [image]}))


def read(number: int, prompt: str, **settings: Any) -> Instance:
    """A question about text alone."""
    return instance(number, (prompt, {"max_gen_toks": 8, **settings}))


def instance(number: int, arguments: tuple[Any, ...], kind: str = "generate_until") -> Instance:
    return Instance(kind, {}, arguments, 0, ("task", number, 1))


def test_a_prompt_that_cannot_fit_costs_nobody_else_an_answer(lm: RecordedHFMultimodal) -> None:
    long = ASKED.replace("(A) red", "(A) red" * LONG)
    requests = [seen(0), seen(1, long), seen(2)]
    texts = lm.generate_until(requests)
    assert texts[1] == "" and texts[0] and texts[2]
    answers = [lm.answers_to(request)[0] for request in requests]
    assert [cut for _, cut in answers] == [False] * 3
    assert [answer.finish_reason for answer, _ in answers] == ["stop", TOO_LONG, "stop"]
    assert lm.batches.progress.done == 3
    assert lm.generate_until([seen(3, long)]) == [""]


def test_a_text_that_is_too_long_loses_its_beginning_and_is_counted(
    lm: RecordedHFMultimodal,
) -> None:
    long, short = read(0, "red blue " * LONG), read(1, "red blue")
    lm.generate_until([long, short])
    (cut, was_cut), (whole, was_not) = lm.answers_to(long)[0], lm.answers_to(short)[0]
    assert (was_cut, was_not) == (True, False)
    assert cut.prompt_tokens == LONG - 8
    assert whole.prompt_tokens == len(lm.tok_encode("red blue"))


def test_an_answer_ends_where_the_model_has_no_more_room(lm: RecordedHFMultimodal) -> None:
    asked = seen(0)
    lm.generate_until([asked])
    (answer, _) = lm.answers_to(asked)[0]
    lm._max_length = answer.prompt_tokens + 1
    lm.forget()
    lm.generate_until([asked])
    (short, _) = lm.answers_to(asked)[0]
    assert (short.finish_reason, short.token_ids) == ("length", answer.token_ids[:1])


def test_each_request_is_answered_by_its_own_settings(lm: RecordedHFMultimodal) -> None:
    requests = [
        read(0, "one two three", max_gen_toks=2),
        read(1, "one two three", max_gen_toks=5),
        read(2, "one two three", max_gen_toks=2),
    ]
    lm.generate_until(requests)
    answers = [lm.answers_to(request)[0][0] for request in requests]
    lengths = [len(answer.token_ids) for answer in answers]
    assert lengths[0] == lengths[2] <= 2 and lengths[1] <= 5
    assert answers[0] == answers[2]


def test_an_answer_took_as_long_as_its_own_steps(lm: RecordedHFMultimodal) -> None:
    asked = [read(place, text) for place, text in enumerate(("one two three", "four"))]
    lm.generate_until(asked)
    long, short = (lm.answers_to(each)[0][0] for each in asked)
    assert long.seconds and short.seconds
    assert len(long.token_ids) > len(short.token_ids)
    assert long.seconds > short.seconds > 0


def test_the_batch_moves_no_answer(lm: RecordedHFMultimodal) -> None:
    requests = [seen(number, size=40 + 20 * number) for number in range(5)]
    together = lm.generate_until(requests)
    padded = [lm.answers_to(request)[0][0] for request in requests]
    lm.forget()
    lm.batch_size = 1
    assert lm.generate_until(requests) == together
    for one, other in zip(
        [lm.answers_to(request)[0][0] for request in requests], padded, strict=True
    ):
        assert (one.token_ids, one.prompt_tokens) == (other.token_ids, other.prompt_tokens)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_the_answer_to_every_repeat_is_kept(lm: RecordedHFMultimodal) -> None:
    torch.manual_seed(1)
    asked = read(0, "one two", do_sample=True, temperature=50.0, max_gen_toks=6)
    lm.batch_size = 1
    first, second = lm.generate_until([asked, asked])
    answers = lm.answers_to(asked)
    assert first != second
    assert [answer.text for answer, _ in answers] == [first, second]


def test_what_was_never_asked_has_no_answer(lm: RecordedHFMultimodal) -> None:
    asked = instance(0, ("one two", " three"), "loglikelihood")
    other = instance(1, ("one two", " four"), "loglikelihood")
    ((value, _),) = lm.loglikelihood([asked])
    assert value < 0 and lm.batches.progress.done == 1
    (answer, cut) = lm.answers_to(asked)[0]
    assert not cut
    assert answer.prompt_tokens == len(lm.tok_encode("one two three"))
    context = len(lm.tok_encode("one two"))
    assert answer.scored_tokens == answer.prompt_tokens - context
    assert lm.answers_to(other) == lm.answers_to(read(2, "one")) == []


def test_a_choice_that_is_too_long_is_counted_and_not_scored(lm: RecordedHFMultimodal) -> None:
    choices = (" red", " red blue" * LONG)
    asked = [
        instance(number, ("one", choice), "loglikelihood") for number, choice in enumerate(choices)
    ]
    (fits, _), (too_long, greedy) = lm.loglikelihood(asked)
    assert (too_long, greedy) == (-math.inf, False) and math.isfinite(fits)
    assert [lm.answers_to(each)[0][0].finish_reason for each in asked] == ["length", TOO_LONG]
    assert lm.batches.progress.done == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"best_of": 2}, "task.gen_kwargs.best_of: transformers has no such setting"),
        ({"max_gen_toks": LONG}, f"engine.max_model_len={LONG}: no room for a prompt"),
    ],
)
def test_a_setting_that_cannot_be_met_is_the_users_to_mend(
    lm: RecordedHFMultimodal, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        lm.check_settings(settings, images=False)  # before the weights are loaded
    with pytest.raises(UserError, match=said):
        lm.generate_until([read(0, "one", **settings)])


def test_a_sampled_request_s_own_seed_is_no_unknown_setting(lm: RecordedHFMultimodal) -> None:
    lm.check_settings(
        {"do_sample": True, "temperature": 0.6, "seed": 7, "max_gen_toks": 8}, images=False
    )


def test_every_step_is_a_sign_of_life(lm: RecordedHFMultimodal) -> None:
    before = lm.batches.progress.beats
    request = read(0, "one two three")
    lm.generate_until([request])
    lm.loglikelihood([instance(0, ("one", " two"), "loglikelihood")])
    (answer, _) = lm.answers_to(request)[0]
    assert lm.batches.progress.beats - before == len(answer.token_ids) + 1


def test_an_attention_that_is_not_there_is_the_users_to_mend() -> None:
    lm = RecordedHFMultimodal(
        pretrained=str(WEIGHTS), device="cpu", attn_implementation="eagr", progress=Heard()
    )
    with pytest.raises(UserError, match=r'rejects this: .*"eagr"'):
        lm.start()


def test_thoughts_before_an_answer_about_an_image_are_taken_out(lm: RecordedHFMultimodal) -> None:
    (whole,) = lm.generate_until([seen(0)])
    lm.forget()
    lm.think_end_token = whole[0]
    try:
        asked = seen(0, until=[whole[0]])
        texts = lm.generate_until([asked])
    finally:
        lm.think_end_token = None
    ((answer, _),) = lm.answers_to(asked)
    assert texts == [whole[1:].lstrip()]
    assert answer.finish_reason == "stop" and lm.tok_decode(answer.token_ids[:1]) == whole[0]
