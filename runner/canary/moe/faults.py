"""Deliberate faults of experts and their router, for the mixture-of-experts canary."""

from collections.abc import Iterable

from torch import Tensor

from runner.canary.checkpoint import Checkpoint
from runner.canary.fault import Edit, Fault
from runner.canary.moe.model import EXPERTS, LAYERS
from runner.canary.weight_faults import integers

_LAYER = 1  # of the faults that are in one layer
_PARTS = ("gate_proj", "up_proj", "down_proj")


def _part(layer: int, expert: int, part: str) -> str:
    return f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight"


def _router(layer: int) -> str:
    return f"model.layers.{layer}.mlp.gate.weight"


def _swap(tensors: dict[str, Tensor], first: str, second: str) -> None:
    tensors[first], tensors[second] = tensors[second], tensors[first]


def _swapped_experts(checkpoint: Checkpoint) -> None:
    for part in _PARTS:
        _swap(checkpoint.tensors, _part(_LAYER, 0, part), _part(_LAYER, 1, part))


def _gate_and_up(checkpoint: Checkpoint) -> None:
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            gate, up = (_part(layer, expert, part) for part in ("gate_proj", "up_proj"))
            _swap(checkpoint.tensors, gate, up)


def _rolled_router(layers: Iterable[int]) -> Edit:
    """Send each token to the expert after the one that was trained for it."""

    def edit(checkpoint: Checkpoint) -> None:
        for layer in layers:
            name = _router(layer)
            checkpoint.tensors[name] = checkpoint.tensors[name].roll(1, 0)

    return edit


def _zeroed_experts(layers: Iterable[int], experts: Iterable[int]) -> Edit:
    names = [_part(layer, expert, "down_proj") for layer in layers for expert in experts]

    def edit(checkpoint: Checkpoint) -> None:
        for name in names:
            checkpoint.tensors[name].zero_()

    return edit


def _setting(key: str, value: int | bool) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        checkpoint.config[key] = value

    return edit


def _rounded_experts(bits: int) -> Edit:
    return integers(bits, lambda name: ".experts." in name)


def moe_faults() -> list[Fault]:
    """All faults, each in the files of the model directory."""
    quantised = "Experts are quantised to {} bits, or dequantised from them, without calibration."
    every = range(LAYERS)
    return [
        *(
            Fault(f"int{bits} experts (per row)", quantised.format(bits), _rounded_experts(bits))
            for bits in (8, 6, 4, 3)
        ),
        Fault(
            f"experts 0 and 1 of layer {_LAYER} swapped",
            "The loader's map from experts to slots has two entries mixed up.",
            _swapped_experts,
        ),
        Fault(
            f"router rows of layer {_LAYER} shifted by one",
            "In one layer, tokens are sent to the wrong experts.",
            _rolled_router([_LAYER]),
        ),
        Fault(
            "router rows of all layers shifted by one",
            "The offset of an expert-parallel rank is off by one.",
            _rolled_router(every),
        ),
        Fault(
            "one expert per token instead of two",
            "The engine ignores num_experts_per_tok, or a kernel drops the second expert.",
            _setting("num_experts_per_tok", 1),
        ),
        Fault(
            "four experts per token instead of two",
            "The engine uses the number of another model, or its own default.",
            _setting("num_experts_per_tok", 4),
        ),
        Fault(
            "router weights not renormalised",
            "The engine ignores norm_topk_prob.",
            _setting("norm_topk_prob", False),
        ),
        Fault(
            f"expert 0 of layer {_LAYER} zeroed",
            "An expert's weights are not loaded, or its capacity is zero.",
            _zeroed_experts([_LAYER], [0]),
        ),
        Fault(
            "experts of rank 1 of 2 zeroed",
            "Results of the other expert-parallel rank don't arrive.",
            _zeroed_experts(every, range(EXPERTS // 2, EXPERTS)),
        ),
        Fault(
            "gate and up projections of experts swapped",
            "The two halves of the fused weight w13 are packed in the wrong order.",
            _gate_and_up,
        ),
    ]
