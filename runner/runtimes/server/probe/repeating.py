"""Asks the same requests alone and in a full batch, with a cold and a warm prefix cache."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from runner.runtimes.server.metrics import Counters, work_between
from runner.runtimes.server.probe.asking import Asker, Request, from_user, salt
from runner.runtimes.server.probe.questions import numbers_shown, story
from runner.runtimes.server.probe.repeatability import Condition, Repeatability, condition, judge
from runner.runtimes.server.probe.reply import Reply, change

TOKENS = 24
ALONE_AGAIN = 2
SEED = 20261125


def repeat(
    asker: Asker, *, length: int, images: bool, counters: Callable[[], Counters | None]
) -> Repeatability:
    """Repeat requests with prompts of up to `length` characters.

    `counters` reads the server's counters, which show whether the prefix cache was warm.
    """
    asked = _requests(asker, length, images)
    first = [asker.alone(each) for each in asked]
    unchecked = [] if asker.logprobs else ["log-probabilities: the server does not tell them"]
    conditions: list[Condition] = []

    def compared(name: str, *rounds: Sequence[Reply]) -> None:
        changes = [change(*pair) for replies in rounds for pair in zip(first, replies, strict=True)]
        conditions.append(condition(name, changes))

    if asker.vllm:
        compared("alone, cold cache", [asker.alone(_cold(each)) for each in asked])
    else:
        unchecked.append(
            "cold and warm prefix cache apart: only vLLM takes a cache_salt; after the first "
            "answers, the cache is warm if the server has one"
        )
    before = counters()
    again = [[asker.alone(each) for each in asked] for _ in range(ALONE_AGAIN)]
    after = counters()
    compared("alone, warm cache" if asker.vllm else "alone, again", *again)
    if asker.concurrency <= len(asked):
        unchecked.append(f"a full batch: at most {len(asked)} requests are concurrent")
    elif asker.vllm:
        compared("batch, cold cache", _crowded(asker, [_cold(each) for each in asked], length))
        compared("batch, warm cache", _crowded(asker, asked, length))
    else:
        compared("batch", _crowded(asker, asked, length))
    work = None if before is None or after is None else work_between(before, after)
    cached = None if work is None else work.prefix_hits
    if asker.vllm and not cached:
        unchecked.append(
            "whether the prefix cache was warm: the server shows no counters"
            if cached is None
            else "a warm prefix cache: the server does not use one"
        )
    return judge(
        conditions,
        requests=len(asked),
        images=images,
        cached=cached,
        looked_up=None if work is None else work.prefix_queries,
        unchecked=unchecked,
    )


def _requests(asker: Asker, length: int, images: bool) -> list[Request]:
    """Requests that share a salt, so that a second one finds the first one's prompt cached."""
    rng = random.Random(SEED)
    shared = salt()
    # Another server's prefix cache is cold only for prompts that it has never seen.
    begin = "" if asker.vllm else f"({secrets.token_hex(4)}) "
    texts = [begin + story(rng, each) for each in (length // 8, length // 2, length)]
    found = [_request(asker, text, TOKENS, shared) for text in texts]
    if images:
        ((text, image),) = numbers_shown(rng, 1)
        found.append(replace(found[0], prompt=from_user(text, image)))
    return found


def _request(asker: Asker, text: str, max_tokens: int, salted: str = "") -> Request:
    prompt = from_user(f"Continue this story.\n\n{text}") if asker.chat else text
    return Request(prompt, max_tokens, salted, {"ignore_eos": True} if asker.vllm else {})


def _cold(request: Request) -> Request:
    return replace(request, salt=salt())


def _crowded(asker: Asker, asked: Sequence[Request], length: int) -> list[Reply]:
    """The answers to requests in the middle of so many longer ones that the batch is full."""
    rng = random.Random(SEED)
    others = [
        _request(asker, story(rng, rng.randint(20, length)), 2 * TOKENS)
        for _ in range(asker.concurrency - len(asked))
    ]
    half = len(others) // 2
    replies = asker.together([*others[:half], *asked, *others[half:]])
    return replies[half : half + len(asked)]
