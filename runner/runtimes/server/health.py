"""The checks of a running server before an evaluation: repeatability and cross-talk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from runner import secrecy
from runner.runtimes.server.attached import USUAL_WINDOW
from runner.runtimes.server.client import Rejected
from runner.runtimes.server.endpoint import Endpoint, ServerError
from runner.runtimes.server.probe.asking import Asker
from runner.runtimes.server.probe.crossing import cross
from runner.runtimes.server.probe.crosstalk import CrossTalk
from runner.runtimes.server.probe.examining import ROUNDS, prompt_length, takes_images
from runner.runtimes.server.probe.repeatability import Repeatability
from runner.runtimes.server.probe.repeating import repeat
from runner.runtimes.server.server import server_counters, server_facts
from runner.served import Check, Health
from runner.status import Status

# Concurrent requests of the checks, whatever the run's window is: one request cannot get mixed up,
# and the checks should take seconds.
FEWEST, MOST = 2, 64


def check_health(endpoint: Endpoint, server: Mapping[str, Any]) -> Health | None:
    """Check an endpoint with as many concurrent requests as the run sends, within limits.

    `server` are the settings of the run's client. Returns None if they turn the checks off.

    Raises:
        UserError: if the server cannot be reached or rejects every kind of request.
        ServerError: if it fails before the first check.
    """
    if not server.get("probe", True):
        return None
    facts = server_facts(endpoint)
    concurrency = min(max(server.get("window", USUAL_WINDOW), FEWEST), MOST)
    length = prompt_length(facts)
    with Asker(endpoint, facts, concurrency) as asker:
        asker.settle()
        images = takes_images(asker)
        counters = partial(server_counters, endpoint)
        repeated = _made(
            partial(repeat, asker, length=length, images=images, counters=counters), endpoint
        )
        count = ROUNDS * concurrency
        crossed = _made(partial(cross, asker, count=count, length=length, images=images), endpoint)
        return Health(repeated, crossed, asker.asked)


def _made(check: Callable[[], Repeatability | CrossTalk], endpoint: Endpoint) -> Check:
    """The result of a check. One that could not be made does not end the run.

    The evaluation is more patient with a server that fails, and would end with its reason.
    """
    try:
        found = check()
    except (Rejected, ServerError) as error:
        words = str(error)
        if endpoint.api_key:
            words = words.replace(endpoint.api_key, "***")
        return Check(Status.INCONCLUSIVE, f"not checked: {secrecy.blotted(words)}")
    told = [found.reason + _power(found), *(f"not checked: {each}" for each in found.unchecked)]
    return Check(found.status, "; ".join(told))


def _power(found: Repeatability | CrossTalk) -> str:
    """Which faults a passed check for cross-talk would have found; empty for any other."""
    if not isinstance(found, CrossTalk) or found.detected is None:
        return ""
    if found.status is not Status.PASSED:
        return ""
    rate = f"{100 * found.detected:.2g} %"
    return f"; detects faults in {rate} of requests or more with 95 % probability"
