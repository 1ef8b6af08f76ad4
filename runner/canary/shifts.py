"""Statistics of how far a fault moves log-probabilities, one value for each forced token."""

from dataclasses import dataclass

import torch
from torch import Tensor

TOP = 20


@dataclass(frozen=True)
class Shift:
    """How far the log-probabilities of n tokens differ from the reference, in nats.

    mean: mean of the absolute differences
    rms: root of the mean square
    signed: mean difference, negative if the tokens became less likely
    p99: 99th percentile of the absolute differences
    kl: mean over positions of the Kullback-Leibler divergence from the reference's distribution
        to the other, with all tokens but the reference's 20 likeliest as one
    """

    mean: float
    rms: float
    signed: float
    p99: float
    kl: float


def shift(reference: Tensor, other: Tensor, tokens: Tensor) -> Shift:
    """Compare two sets of log-probabilities (n, vocabulary) on ``tokens`` (n,)."""
    chosen = tokens[:, None]
    delta = (other.gather(1, chosen) - reference.gather(1, chosen)).double()
    size = delta.abs()
    return Shift(
        mean=size.mean().item(),
        rms=delta.square().mean().sqrt().item(),
        signed=delta.mean().item(),
        p99=size.quantile(0.99).item(),
        kl=_divergence(reference.double(), other.double()).mean().item(),
    )


def _divergence(reference: Tensor, other: Tensor) -> Tensor:
    """Divergence at each position, shape (n,).

    Merging tokens can only lower it, and it is never negative. A sum over 20 tokens without the
    merged rest could be.
    """
    top = reference.topk(TOP).indices
    before, after = (_merged(part, top) for part in (reference, other))
    return (before.exp() * (before - after)).sum(-1)


def _merged(logprobs: Tensor, top: Tensor) -> Tensor:
    """Log-probabilities of the ``top`` tokens (n, 20) and of all others together, (n, 21)."""
    rest = logprobs.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat((logprobs.gather(1, top), rest), 1)
