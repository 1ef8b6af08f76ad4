"""Estimate a model's device memory from its files before an engine starts (docs/memory.md).

What is counted, a device's weights and the KV cache of one sequence of `max_model_len`, is what
vLLM cannot do without. What is not counted (activations, graphs, communication buffers) comes on
top, so the estimate refuses only what cannot fit.
"""

from runner.memory.estimate import Estimate, estimate
from runner.memory.layout import Layout
from runner.memory.room import Room, Shortage, describe, fits
from runner.memory.stored import StoredWeights, stored_weights

__all__ = [
    "Estimate",
    "Layout",
    "Room",
    "Shortage",
    "StoredWeights",
    "describe",
    "estimate",
    "fits",
    "stored_weights",
]
