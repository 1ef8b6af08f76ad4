"""Asks many requests at the same time whose answers tell them apart."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice

from runner.runtimes.server.probe.asking import Asker, Request, from_user, salt
from runner.runtimes.server.probe.crosstalk import Asked, CrossTalk, judge
from runner.runtimes.server.probe.questions import DIGITS, copying, nonces, numbers_shown, story
from runner.runtimes.server.probe.reply import Reply

# Requests that show whether the model can copy.
SAMPLE = 4
# Requests whose answers are learnt, how many answers must differ, and the length of their texts.
KNOWN, DISTINCT, KNOWN_LENGTH = 16, 8, 120
COPIED_TOKENS, KNOWN_TOKENS = 32, 16
# Wrong answers for which the same request is sent again, alone.
AGAIN = 32


@dataclass(frozen=True)
class _Question:
    """A request with the number that its answer repeats, or with its answer when it was alone."""

    request: Request
    nonce: str = ""
    alone: Reply | None = None


# Makes this number of questions.
_Make = Callable[[int], list[_Question]]


def cross(asker: Asker, *, count: int, length: int, images: bool) -> CrossTalk:
    """Send `count` requests with prompts of about `length` characters at the same time."""
    rng = random.Random(secrets.randbits(64))
    text, image = _text_way(asker, rng, length), _image_way(asker, rng, images)
    ways = [way for way in (text, image) if way is not None]
    alike = ["texts"] * (text is None) + ["images"] * (images and image is None)
    shares = [count // len(ways) + (n < count % len(ways)) for n in range(len(ways))]
    crowd = [each for (_, make), share in zip(ways, shares, strict=True) for each in make(share)]
    rng.shuffle(crowd)
    replies = asker.together([each.request for each in crowd])
    asked = [
        Asked(reply, each.nonce, each.alone) for each, reply in zip(crowd, replies, strict=True)
    ]
    return judge(
        _asked_again(asker, crowd, asked),
        method="; ".join(name for name, _ in ways),
        concurrency=asker.concurrency,
        unchecked=[f"{each}: the model gives too many the same answer" for each in alike],
    )


def _asked_again(asker: Asker, crowd: Sequence[_Question], asked: Sequence[Asked]) -> list[Asked]:
    """The same with the answer of a request alone wherever a number was not copied."""
    wrong = [n for n, each in enumerate(asked) if each.nonce and not each.right][:AGAIN]
    alone = {n: asker.alone(replace(crowd[n].request, salt=salt())) for n in wrong}
    return [replace(each, alone=alone.get(n, each.alone)) for n, each in enumerate(asked)]


def _text_way(asker: Asker, rng: random.Random, length: int) -> tuple[str, _Make] | None:
    """Numbers to copy if the model can, otherwise texts with different answers."""
    filler, shared = story(rng, length), salt()

    def copied(chat: bool, number: int) -> list[_Question]:
        return [
            _copied(asker, nonce, filler, chat=chat, shared=shared if n % 2 else "")
            for n, nonce in enumerate(nonces(rng, number))
        ]

    for chat in (each for each, there in ((True, asker.chat), (False, asker.completion)) if there):
        sample = copied(chat, SAMPLE)
        answers = [Asked(asker.alone(each.request), each.nonce) for each in sample]
        if all(each.right for each in answers):
            api = "chat" if chat else "completions"
            return f"numbers of {DIGITS} digits to copy ({api})", partial(copied, chat)
    prompts = [f"Continue this story.\n\n{story(rng, KNOWN_LENGTH)}" for _ in range(KNOWN)]
    requests = [Request(from_user(each) if asker.chat else each, KNOWN_TOKENS) for each in prompts]
    return _learnt(asker, "texts", requests)


def _copied(asker: Asker, nonce: str, filler: str, *, chat: bool, shared: str) -> _Question:
    """A number after a text that other requests share in the prefix cache, or before it."""
    text = copying(nonce, filler, chat=chat, first=not shared)
    # Reasoning takes more tokens than a probe has time for.
    fields = {"chat_template_kwargs": {"enable_thinking": False}} if chat and asker.vllm else {}
    prompt = from_user(text) if chat else text
    return _Question(Request(prompt, COPIED_TOKENS, shared, fields), nonce)


def _image_way(asker: Asker, rng: random.Random, images: bool) -> tuple[str, _Make] | None:
    if not images:
        return None
    shown = numbers_shown(rng, KNOWN)
    requests = [Request(from_user(text, image), KNOWN_TOKENS) for text, image in shown]
    return _learnt(asker, "images", requests)


def _learnt(asker: Asker, what: str, requests: Sequence[Request]) -> tuple[str, _Make] | None:
    """Questions whose answers are learnt by asking each alone; None if too many are alike."""
    known = [_Question(each, alone=asker.alone(each)) for each in requests]
    if len({each.alone.text for each in known if each.alone is not None}) < DISTINCT:
        return None
    shared = salt()

    def made(number: int) -> list[_Question]:
        return [
            replace(each, request=replace(each.request, salt=shared if n % 2 else ""))
            for n, each in enumerate(islice(cycle(known), number))
        ]

    return f"{KNOWN} {what} with answers known from asking each alone", made
