"""Where transformers' answers end, what is kept of every token, and what lm-eval's classes take."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from runner.canary import WEIGHTS
from runner.platforms.cpu import cure_this_process

cure_this_process()  # before transformers looks for torchvision

from lm_eval.models.hf_vlms import HFMultimodalLM  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from transformers import AutoTokenizer, GenerationConfig  # noqa: E402

from runner.runtimes.hf import checks  # noqa: E402
from runner.runtimes.hf.generation import PLAIN, Batch, settle, settled  # noqa: E402

TOKENIZER = AutoTokenizer.from_pretrained(WEIGHTS)
END = TOKENIZER.eos_token_id
PAD = TOKENIZER.pad_token_id


def tokens(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text)["input_ids"]
    return ids


def generated(
    rows: Sequence[Sequence[int]],
    *,
    stops: Sequence[str] = (),
    rooms: Sequence[int] | None = None,
    scores: torch.Tensor | None = None,
) -> tuple[Batch, list[int]]:
    """Let `rows` be chosen step by step, as `generate` does; the steps that each row took."""
    prompts = [tokens("What colour is it?\n")] * len(rows)
    steps: list[None] = []
    batch = Batch(
        TOKENIZER,
        [END],
        stops,
        prompts,
        rooms or [100] * len(rows),
        lambda tokens: steps.append(None),
    )
    ids = torch.tensor(prompts)
    took = [0] * len(rows)
    done = torch.zeros(len(rows), dtype=torch.bool)
    for step in range(max(map(len, rows))):
        if scores is None:
            scores = torch.zeros(len(rows), len(TOKENIZER))
        assert batch.scores(ids, scores) is scores
        chosen = [
            PAD if done[row] or step >= len(each) else each[step] for row, each in enumerate(rows)
        ]
        took = [n + (not done[row]) for row, n in enumerate(took)]
        ids = torch.cat((ids, torch.tensor(chosen).unsqueeze(-1)), dim=1)
        done = batch(ids, None)
        if done.all():
            break
    assert len(steps) == max(took)
    return batch, took


def test_an_answer_ends_with_its_end_token_and_keeps_no_padding() -> None:
    red, blue = tokens("red"), tokens("blue and red")
    batch, took = generated([[*red, END, *red], [*blue, END]])
    assert took == [len(red) + 1, len(blue) + 1]
    first, second = batch.answers()
    assert first.token_ids == (*red, END) and second.token_ids == (*blue, END)
    assert first.finish_reason == second.finish_reason == "stop"
    assert [answer.text for answer in batch.answers()] == ["red", "blue and red"]
    assert len(first.logprobs) == len(first.margins) == len(first.token_ids)


def test_an_answer_ends_behind_a_stop_text_that_spans_tokens() -> None:
    """Each row by its own: lm-eval's criteria would let both go on until one text ends them all."""
    one, other = tokens("A red one.\n\nQuestion"), tokens("B #### blue and more")
    batch, took = generated([one, other], stops=["", "\n\n", "####"])
    assert [answer.text for answer in batch.answers()] == ["A red one.", "B "]
    assert took[0] < len(one) and took[1] < len(other)
    assert [answer.finish_reason for answer in batch.answers()] == ["stop", "stop"]
    assert TOKENIZER.decode(batch.answers()[0].token_ids).endswith("\n\n")


def test_an_answer_without_room_ends_for_its_length() -> None:
    long = tokens("one two three four five six")
    batch, took = generated([long, long], rooms=[2, 4])
    assert took == [2, 4]
    assert [answer.finish_reason for answer in batch.answers()] == ["length", "length"]
    assert [len(answer.token_ids) for answer in batch.answers()] == [2, 4]


def test_a_first_token_keeps_the_space_that_it_begins_with() -> None:
    batch, _ = generated([[*tokens(" red"), END]])
    assert [answer.text for answer in batch.answers()] == [" red"]


def test_special_tokens_in_an_answer_are_spelled_out() -> None:
    """As vLLM does for lm-eval; an answer that holds an image's placeholder is not a clean one."""
    placeholder = TOKENIZER.convert_tokens_to_ids("<|image_pad|>")
    batch, _ = generated([[*tokens("A"), placeholder, END]])
    assert [answer.text for answer in batch.answers()] == ["A<|image_pad|>"]


def test_log_probabilities_are_of_the_chosen_token_and_its_lead_over_the_best_other() -> None:
    scores = torch.full((2, len(TOKENIZER)), -1e9)
    scores[:, 10:13] = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    batch, _ = generated([[10], [12]], rooms=[1, 1], scores=scores.to(torch.bfloat16).float())
    best, third = batch.answers()
    assert best.logprobs[0] == pytest.approx(-0.6931, abs=5e-3)
    assert best.margins[0] == pytest.approx(0.5108, abs=5e-3)
    assert third.logprobs[0] == pytest.approx(-1.6094, abs=5e-3)
    assert third.margins[0] == pytest.approx(-0.9163, abs=5e-3)


def test_what_the_weights_say_of_sampling_is_left_out_and_their_ends_stay() -> None:
    config = GenerationConfig(
        do_sample=True, temperature=0.1, top_k=1, top_p=0.001, repetition_penalty=1.05
    )
    config.eos_token_id = [7, 9]
    settle(config, TOKENIZER)
    assert {name: getattr(config, name) for name in PLAIN} == PLAIN
    assert config.eos_token_id == sorted({7, 9, END})


def test_the_options_that_we_let_through_are_those_of_lm_eval() -> None:
    ours = set(checks.HF_ARGUMENTS)
    theirs = set(inspect.signature(HFLM.__init__).parameters)
    left_out = {
        *("self", "kwargs", "pretrained", "revision", "tokenizer", "max_length", "device", "dtype"),
        *("batch_size", "max_batch_size", "trust_remote_code", "think_end_token"),
        *("enable_thinking", "chat_template_args", "tp_plan", "delta", "autogptq", "gptqmodel"),
        *("gguf_file", "backend", "truncation", "logits_cache"),
    }
    assert ours == theirs - left_out
    images = set(inspect.signature(HFMultimodalLM.__init__).parameters) - {
        *("max_images", "convert_img_format")
    }
    assert set(checks.HF_MULTIMODAL_ARGUMENTS) == images - {"self", "kwargs", "pretrained"}


@pytest.mark.parametrize(
    ("given", "sampling"),
    [
        ({"do_sample": True, "temperature": 0.5}, {"do_sample": True, "temperature": 0.5}),
        ({"temperature": 0.0}, {"do_sample": False}),
        ({"do_sample": True, "temperature": 0.0}, {"do_sample": False}),
        ({"do_sample": False, "temperature": 0.5}, {"do_sample": False}),
    ],
)
def test_a_temperature_of_nought_is_greedy_as_for_vllm(
    given: dict[str, Any], sampling: dict[str, Any]
) -> None:
    assert settled(given, 8, "", None).sampling == sampling
