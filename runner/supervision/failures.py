"""Explain why an attempt failed, and whether a retry may succeed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.plan import Plan
from runner.supervision import shortage
from runner.supervision.shortage import Shortage

# A process of the engine has died. vllm 0.23 to 0.32: v1/engine/exceptions.py,
# v1/executor/multiproc_executor.py, and v1/engine/utils.py, which gives a signal as a negative
# status; where a rank of several died at the start, the core ends with an error of its own. The
# last two are messages of our own client: the server that it launched has died, or stalled.
DIED = re.compile(
    r"EngineDeadError|Failed core proc\(s\): \{[^}]*: -[0-9]+[^}]*\}"
    r"|vllm serve: (?:gave up: connection|no token within limits\.stall_s)"
)
OBITUARY = re.compile(r"\w*(?: proc|Proc) \S+ died unexpectedly[^,\n]*")


@dataclass(frozen=True)
class Failure:
    """Why an attempt has no result; transient if a retry may succeed."""

    reason: str
    transient: bool = False


def reported(reason: str, log: str, plan: Plan) -> Failure:
    """Return the failure from the worker's reported reason and its part of the engine's log.

    Errors of Python's are not transient, nor is memory that ran out where nobody else held any.
    """
    found = _shortage(log, plan)
    if found is not None:
        return Failure(_said(found), found.taken)
    obituary = OBITUARY.search(log)
    if obituary is not None:
        return Failure(f"{reason}; {obituary.group()}", transient=True)
    return Failure(reason, DIED.search(reason) is not None)


def observed(failure: Failure, log: str, plan: Plan) -> Failure:
    """What was seen from outside, with the cause where the log has it: a rank that is out of memory
    leaves the others waiting for it.
    """
    found = _shortage(log, plan)
    if found is None:
        return failure
    return Failure(f"{failure.reason}; {_said(found)}", failure.transient and found.taken)


def _shortage(log: str, plan: Plan) -> Shortage | None:
    return shortage.find(log, plan.engine_args, plan.platform)


def _said(found: Shortage) -> str:
    return f"out of memory: {found.said}; {found.cure}"
