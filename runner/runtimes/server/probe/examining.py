"""The three checks of a server."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from runner.runtimes.server.client import Rejected
from runner.runtimes.server.endpoint import Endpoint
from runner.runtimes.server.probe import identifying, identity
from runner.runtimes.server.probe.asking import Asker
from runner.runtimes.server.probe.crossing import cross
from runner.runtimes.server.probe.crosstalk import CrossTalk
from runner.runtimes.server.probe.identity import Identity
from runner.runtimes.server.probe.local import LocalModel
from runner.runtimes.server.probe.questions import numbers_shown
from runner.runtimes.server.probe.repeatability import Repeatability
from runner.runtimes.server.probe.repeating import repeat
from runner.runtimes.server.server import ServerFacts, server_counters, server_facts
from runner.status import EXIT_STATUS, Status, worst

CONCURRENCY = 64
# Rounds of concurrent requests that look for cross-talk.
ROUNDS = 4
# A prompt fills two blocks of the prefix cache, which reuses only full ones. English has about five
# characters a token, and vllm-ascend blocks of 128 tokens.
BLOCKS, CHARACTERS, BLOCK = 2, 5, 128
LEAST = 600


@dataclass(frozen=True)
class Probed:
    """The findings about a server. `requests` counts all requests, `retried` failed attempts."""

    url: str
    identity: Identity
    repeatability: Repeatability
    crosstalk: CrossTalk
    requests: int
    retried: Mapping[str, int]

    @property
    def exit_status(self) -> int:
        """The worst of the checks; an identity without a model to compare with is none."""
        checks = [self.identity.status, self.repeatability.status, self.crosstalk.status]
        return worst(EXIT_STATUS[each] for each in checks if each is not Status.UNJUDGED)


def examine(
    endpoint: Endpoint,
    *,
    model: LocalModel | None = None,
    concurrency: int = CONCURRENCY,
    requests: int | None = None,
    tell: Callable[[str], None] = lambda check: None,
) -> Probed:
    """Run all checks; `tell` is called with the name of each as it begins.

    `requests` is the number of concurrent requests that look for cross-talk, ROUNDS times
    `concurrency` by default.

    Raises:
        UserError: if the server cannot be reached or rejects requests.
        ServerError: if it keeps failing.
    """
    facts = server_facts(endpoint)
    length = prompt_length(facts)
    with Asker(endpoint, facts, concurrency) as asker:
        try:
            tell("identity")
            asker.settle()
            images = takes_images(asker)
            identified = _identify(asker, facts, model)
            tell("repeatability")
            repeated = repeat(
                asker, length=length, images=images, counters=partial(server_counters, endpoint)
            )
            tell("cross-talk")
            crossed = cross(
                asker, count=requests or ROUNDS * concurrency, length=length, images=images
            )
        except Rejected as rejected:
            raise asker.refusal(rejected) from rejected
        return Probed(
            endpoint.url,
            identified(),
            repeated,
            crossed,
            asker.asked,
            dict(asker.retried),
        )


def check_identity(endpoint: Endpoint, model: LocalModel) -> Identity:
    """Run the first check alone.

    Raises:
        UserError, ServerError: as `examine`.
    """
    facts = server_facts(endpoint)
    with Asker(endpoint, facts, 1) as asker:
        try:
            asker.settle()
            return _identify(asker, facts, model)()
        except Rejected as rejected:
            raise asker.refusal(rejected) from rejected


def _identify(asker: Asker, facts: ServerFacts, model: LocalModel | None) -> Callable[[], Identity]:
    """Compare prompts and vocabulary; returns what judges them and the source of all answers."""
    if model is None:
        return lambda: identity.judge(
            facts, (), None, asker.served, model=None, model_limit=None, unchecked=()
        )
    prompts, unchecked = identifying.prompts(asker, model)
    vocabulary = identifying.vocabulary(asker, model) if asker.vllm else None
    if vocabulary is None:
        unchecked.append("the vocabulary: the server has no /detokenize")
    return lambda: identity.judge(
        facts,
        prompts,
        vocabulary,
        asker.served,
        model=model.name,
        model_limit=model.longest,
        unchecked=unchecked,
    )


def takes_images(asker: Asker) -> bool:
    """Whether the server answers a question with an image."""
    ((text, image),) = numbers_shown(random.Random(0), 1)
    return asker.takes_images(text, image)


def prompt_length(facts: ServerFacts) -> int:
    """The number of characters of a long prompt.

    Half the context's tokens at most: a byte-level tokenizer may make a token of each character.
    """
    size = facts.cache.get("block_size", "")
    block = int(size) if size.isdecimal() else BLOCK
    length = max(LEAST, BLOCKS * CHARACTERS * block)
    limit = facts.model.max_model_len
    return length if limit is None else min(length, limit // 2)
