"""Made-up differences between traces, for tests of what a trace finds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from runner.plan import TracePlan
from runner.trace.departures import found
from runner.trace.differences import Difference
from runner.trace.result import Traced, TraceResult

LAYERS = 4
PARTS = ("input_layernorm", "self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj")
MODULES = (
    "embed_tokens",
    *(f"layers.{layer}.{part}" for layer in range(LAYERS) for part in PARTS),
    "norm",
    "lm_head",
)
QUESTIONS = 12
# Far above what rounding does.
NOISE = 1e-3


def differences(
    random_state: random.Random,
    factors: Mapping[tuple[str, str], float] | None = None,
    spread: float = 0.5,
    factor: float = 1.0,
    dtype: str = "float32",
) -> list[Difference]:
    """Differences of all modules in prefill and decode.

    A module's true difference is NOISE times its factor, or `factor`; a question's logarithm has
    the standard deviation `spread`.
    """
    return [
        Difference(
            module,
            phase,
            place,
            dtype,
            {
                f"task {number} 0 0": NOISE
                * (factors or {}).get((phase, module), factor)
                * random_state.lognormvariate(0.0, spread)
                for number in range(QUESTIONS)
            },
            rows=QUESTIONS * 64,
            cosine=0.999,
            largest=1.02,
            broken=(0, 0),
        )
        for phase in ("prefill", "decode")
        for place, module in enumerate(MODULES)
    ]


def departing(phase: str, module: str, factor: float) -> dict[tuple[str, str], float]:
    """The factor of a module and of all that run after it."""
    names = [(each, name) for each in ("prefill", "decode") for name in MODULES]
    behind = names[names.index((phase, module)) :]
    if phase == "prefill":  # what is before it in decode still agrees
        decode = [("decode", name) for name in MODULES[: MODULES.index(module)]]
        behind = [each for each in behind if each not in decode]
    return dict.fromkeys(behind, factor)


def result(
    factors: Mapping[tuple[str, str], float] | None = None, name: str = "outputs/b"
) -> TraceResult:
    """A whole result, in which some modules differ by a multiple of the noise."""
    state = random.Random(5)
    judged = found(differences(state, factors), differences(state))
    return TraceResult(
        reference="outputs/a",
        first=Traced("outputs/a", "outputs/t/a", "vllm", "TP1", "bfloat16"),
        second=Traced(name, "outputs/t/b", "vllm", "TP2", "bfloat16"),
        noise="with engine.window=1",
        questions=tuple(f"task {number} 0 0" for number in range(QUESTIONS)),
        covered=TracePlan(),
        found=judged,
    )


def with_nan(each: Difference) -> Difference:
    """A difference in which only the second trace has NaN."""
    return replace(each, broken=(0, 3))
