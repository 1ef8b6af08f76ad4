"""The likeliest tokens of each step of an answer, as compact text that fits a journal's line.

A Python object for each would take gigabytes for a few hundred reasoning answers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.lm.script import CANDIDATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = np.dtype([("token", "<i4"), ("logprob", "<f4")])
# Stands for a candidate that a step does not have.
NO_TOKEN = -1


def packed(ids: NDArray[np.int_], logprobs: NDArray[np.floating[Any]]) -> str:
    """Two arrays [steps, up to CANDIDATES] as text: token ids, and log-probabilities in nats."""
    steps = np.empty((len(ids), CANDIDATES), dtype=_STEP)
    steps["token"], steps["logprob"] = NO_TOKEN, -np.inf
    steps["token"][:, : ids.shape[1]] = ids
    steps["logprob"][:, : ids.shape[1]] = logprobs
    return base64.b64encode(steps.tobytes()).decode()


def packed_steps(steps: Sequence[Mapping[int, Any]]) -> str:
    """vLLM's candidates of each step, {token: an object with `logprob`}, as text."""
    ids = np.full((len(steps), CANDIDATES), NO_TOKEN, dtype=np.int32)
    logprobs = np.full((len(steps), CANDIDATES), -np.inf, dtype=np.float32)
    for place, candidates in enumerate(steps):
        best = sorted(candidates.items(), key=lambda each: -each[1].logprob)[:CANDIDATES]
        ids[place, : len(best)] = [token for token, _ in best]
        logprobs[place, : len(best)] = [entry.logprob for _, entry in best]
    return packed(ids, logprobs)


def steps_of(texts: Iterable[str]) -> NDArray[Any]:
    """All steps of all texts, [steps, CANDIDATES], with the fields `token` and `logprob`."""
    steps = np.frombuffer(b"".join(map(base64.b64decode, texts)), dtype=_STEP)
    return steps.reshape(-1, CANDIDATES)


def unpacked(texts: Iterable[str]) -> tuple[list[int], list[float]]:
    """The token ids and log-probabilities of all steps of all texts, CANDIDATES for each."""
    steps = steps_of(texts).ravel()
    return steps["token"].tolist(), steps["logprob"].tolist()
