"""Asks a server for the tokens of prompts and the text of tokens, to compare with a local model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.runtimes.server.client import Rejected
from runner.runtimes.server.probe.asking import Asker, Messages, Request
from runner.runtimes.server.probe.identity import Prompt, Vocabulary, compare
from runner.runtimes.server.probe.local import LocalModel
from runner.runtimes.server.probe.questions import CONVERSATIONS, TEXTS

# Token ids in one request, and those above the vocabulary, which should have no text.
CHUNK, BEYOND = 8192, 64
# Different token ids that are named, and the longest text that is shown.
NAMED, SHOWN = 3, 40


def prompts(asker: Asker, local: LocalModel) -> tuple[list[Prompt], list[str]]:
    """The prompts' tokens compared, and a line for each kind that could not be."""
    found, unchecked = [], []
    if asker.completion or asker.vllm:
        for name, text in TEXTS.items():
            found.append(compare(name, [local.ids(text)], _tokens(asker, text), local.text))
    else:
        unchecked.append("the tokenizer on plain text: the server has no /completions")
    if not asker.chat:
        unchecked.append("the chat template: the server rejects chat")
        return found, unchecked
    try:
        rendered = {name: local.chat_ids(said) for name, said in CONVERSATIONS.items()}
    except LookupError:
        unchecked.append(f"the chat template: {local.name} has none")
        return found, unchecked
    for name, said in CONVERSATIONS.items():
        try:
            there, rejected = _tokens(asker, said), False
        except Rejected:
            there, rejected = None, True
        found.append(compare(name, rendered[name], there, local.text, rejected=rejected))
    return found, unchecked


def vocabulary(asker: Asker, local: LocalModel) -> Vocabulary | None:
    """The text of every token id compared; None if the server does not tell it."""
    known = local.vocabulary()
    different: list[int] = []
    for start in range(0, len(known), CHUNK):
        ids = known[start : start + CHUNK]
        there = _text(asker, ids)
        if there is None:
            return None
        if there != local.text(ids) and len(different) < NAMED:
            different += _different(asker, local, ids)
    described = [
        f"{each}: server {_text(asker, [each])!r}, local {local.text([each])!r}"
        for each in different[:NAMED]
    ]
    above = known[-1] + 1
    if beyond := _text(asker, range(above, above + BEYOND)):
        described.append(f"{above} and above: server {beyond[:SHOWN]!r}, local nothing")
    return Vocabulary(len(known), tuple(described))


def _different(asker: Asker, local: LocalModel, ids: Sequence[int]) -> list[int]:
    """The first ids whose text differs by itself; in a sequence, decoders may differ as well."""
    if _text(asker, ids) == local.text(ids):
        return []
    if len(ids) == 1:
        return list(ids)
    half = len(ids) // 2
    first = _different(asker, local, ids[:half])
    return first if len(first) >= NAMED else first + _different(asker, local, ids[half:])


def _text(asker: Asker, ids: Sequence[int]) -> str | None:
    return asker.own("/detokenize", {"tokens": list(ids)}, lambda answer: str(answer["prompt"]))


def _tokens(asker: Asker, prompt: str | Messages) -> Sequence[int] | int | None:
    """The tokens of a prompt, or their number, as far as the server tells them.

    Raises:
        Rejected: if it rejects the prompt.
    """
    told: int | None = None
    request = Request(prompt, 1)
    if asker.chat if request.chat else asker.completion:
        reply = asker.alone(request)
        if reply.prompt_ids is not None:
            return reply.prompt_ids
        told = reply.prompt_tokens
    if asker.vllm:
        fields: Mapping[str, Any] = {"messages" if request.chat else "prompt": prompt}
        ids = asker.own(
            "/tokenize", fields, lambda answer: [int(each) for each in answer["tokens"]]
        )
        return told if ids is None else ids
    return told
