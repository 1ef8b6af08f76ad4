"""The faults that the likely cause of a difference is measured with: the atlas, and variants of it.

A class needs several faults, so that some can be held out. Each fault has a family: faults that are
alike, such as all widths of integers, are held out together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from runner.canary.batch import Batch
from runner.canary.cache_faults import cache_faults
from runner.canary.checkpoint import Checkpoint
from runner.canary.fault import Change, Edit, Fault
from runner.canary.faults import all_faults
from runner.canary.pixels import MEAN, PATCH, STD

_MEAN, _STD = torch.tensor(MEAN).view(3, 1), torch.tensor(STD).view(3, 1)
# The classes of runner/verdict/cause.py, which doesn't tell a prompt from a language model.
IMAGES, ORDER, DECODE, SCALE, MODEL, PROMPT = (
    "images",
    "order",
    "decode",
    "scale",
    "model",
    "prompt",
)

# Of the atlas: (start of the name, class, family).
_ATLAS = (
    ("fp8 weights", MODEL, "rounding"),
    ("int", MODEL, "rounding"),
    ("text attention", MODEL, "text attention"),
    ("text MLP", MODEL, "text MLP"),
    ("vision attention", IMAGES, "vision attention"),
    ("vision MLP", IMAGES, "vision MLP"),
    ("q/k/v bias", MODEL, "bias"),
    ("attention head", MODEL, "text head"),
    ("text layer", MODEL, "text layer"),
    ("partial sum", MODEL, "partial sum"),
    ("gate and up", MODEL, "gate and up"),
    ("embedding shard", MODEL, "embedding"),
    ("two embedding rows", MODEL, "embedding"),
    ("lm_head", SCALE, "lm_head"),
    ("BGR", IMAGES, "channels"),
    ("rope_theta", MODEL, "rope"),
    ("RMSNorm", MODEL, "epsilon"),
    ("vision: every", IMAGES, "vision windows"),
    ("mean and std", IMAGES, "normalisation"),
    ("question cut", PROMPT, "prompt cut"),
    ("no generation", PROMPT, "generation prompt"),
    ("extra token", PROMPT, "extra token"),
    ("system message", PROMPT, "system message"),
    ("vision RoPE", IMAGES, "vision rope"),
    ("M-RoPE", IMAGES, "image positions"),
    ("patches in", IMAGES, "patch order"),
    ("images swapped", ORDER, "swapped"),
    ("second image instead", ORDER, "image repeated"),
    ("images of other", IMAGES, "other images"),
    ("blank", IMAGES, "blank"),
)


@dataclass(frozen=True)
class Known:
    """A fault whose class is known."""

    fault: Fault
    label: str
    family: str


def known_faults() -> list[Known]:
    """The atlas without its two healthy stacks, and the variants.

    The faults of the KV cache are left out: they have none of the classes.
    """
    found = []
    unclassed = {fault.name for fault in cache_faults()}
    for fault in all_faults()[2:]:
        if fault.name in unclassed:
            continue
        label, family = next(
            (label, family) for start, label, family in _ATLAS if fault.name.startswith(start)
        )
        found.append(Known(fault, label, family))
    return found + [Known(fault, *rest) for fault, *rest in _variants()]  # type: ignore[arg-type]


def _variants() -> list[tuple[Fault, str, str]]:
    def weights(name: str, label: str, family: str, edit: Edit) -> tuple[Fault, str, str]:
        return Fault(name, "", edit), label, family

    def model(name: str, label: str, family: str, change: Change) -> tuple[Fault, str, str]:
        return Fault(name, "", change=change), label, family

    def pixels(name: str, family: str, function: Callable[[Tensor], Tensor]) -> Any:
        return Fault(name, "", rewrite=_on_patches(function)), IMAGES, family

    def pair(name: str, family: str, rewrite: Callable[[Batch], Batch]) -> Any:
        return Fault(name, "", rewrite=rewrite), ORDER, family

    heads = [(0, 2), (2, 1), (3, 3)]
    return [
        *(
            weights(
                f"vision int{bits} weights",
                IMAGES,
                "vision rounding",
                _scaled_to(r"^visual\..*weight$", bits),
            )
            for bits in (6, 4, 3)
        ),
        *(
            weights(
                f"text int{bits} MLP weights", MODEL, "rounding", _scaled_to(r"layers.*mlp", bits)
            )
            for bits in (6, 5, 4)
        ),
        *(
            weights(f"head {head} of layer {at} zeroed", MODEL, "text head", _no_head(at, head))
            for at, head in heads
        ),
        *(
            weights(
                f"text layer {at} skipped",
                MODEL,
                "text layer",
                _times(rf"layers\.{at}\..*(o_proj|down_proj)\.weight", 0.0),
            )
            for at in (1, 3)
        ),
        *(
            weights(f"v_proj times {by}", MODEL, "scaled weights", _times(r"layers.*v_proj", by))
            for by in (0.9, 1.1, 1.5)
        ),
        *(
            weights(f"query times {by}", MODEL, "attention scale", _times(r"layers.*q_proj", by))
            for by in (0.8, 0.95, 1.2, 1.5)
        ),
        *(
            weights(
                f"text norm {at} one", MODEL, "norm weights", _ones(rf"layers\.{at}.*layernorm")
            )
            for at in (0, 2)
        ),
        weights("vision bias dropped", IMAGES, "vision bias", _times(r"^visual.*qkv\.bias", 0.0)),
        weights("merger times 1.1", IMAGES, "merger", _times(r"merger\.mlp\.2\.weight", 1.1)),
        weights("merger bias dropped", IMAGES, "merger", _times(r"merger.*bias", 0.0)),
        *(
            weights(f"vision head {head} zeroed", IMAGES, "vision head", _no_vision_head(head))
            for head in (0, 2)
        ),
        *(
            weights(f"final norm times {by}", SCALE, "final norm", _times(r"^model\.norm", by))
            for by in (0.8, 0.95, 1.05, 1.2)
        ),
        *(
            model(f"logits times {by}", SCALE, "logit scale", _scaled_logits(by))
            for by in (0.7, 0.85, 1.15, 1.3)
        ),
        *(
            model(f"logits capped at {cap}", SCALE, "soft cap", _capped_logits(cap))
            for cap in (15, 30)
        ),
        *(
            model(f"epsilon {epsilon:g}", MODEL, "epsilon", _epsilon(epsilon))
            for epsilon in (1e-4, 1e-3, 1e-1)
        ),
        *(
            model(f"attention limited to {size} tokens", MODEL, "window", _window(size))
            for size in (8, 16, 32)
        ),
        pixels("grey images", "channels", lambda x: x.mean(1, keepdim=True).expand_as(x)),
        pixels("G and B swapped", "channels", lambda x: x[:, [0, 2, 1]]),
        pixels("scaled to 1/255 twice", "range", lambda x: (_raw(x) / 255 - _MEAN) / _STD),
        pixels("not normalised", "range", _raw_of),
        pixels("contrast halved", "contrast", lambda x: x / 2),
        pixels("brightness + 0.1", "contrast", lambda x: x + 0.1 / _STD),
        pixels("four levels", "levels", lambda x: ((_raw(x) * 3).round() / 3 - _MEAN) / _STD),
        pixels("16 levels", "levels", lambda x: ((_raw(x) * 15).round() / 15 - _MEAN) / _STD),
        pixels("patches mirrored", "mirrored", lambda x: _square(x).flip(-1).flatten(2)),
        pixels("patches upside down", "mirrored", lambda x: _square(x).flip(-2).flatten(2)),
        pixels("pixels transposed", "mirrored", lambda x: _square(x).mT.flatten(2)),
        pixels("blurred", "resized", _blurred),
        pixels("shifted by a pixel", "resized", lambda x: _square(x).roll(1, -1).flatten(2)),
        (Fault("last patches blank", "", rewrite=_last_blank), IMAGES, "blank"),
        pair("first image twice", "image repeated", _per_pair(lambda a, b: (a, _like(a, b)))),
        pair("second image blank", "image lost", _per_pair(lambda a, b: (a, a[:1] * 0 + 0 * b))),
        pair("first image blank", "image lost", _per_pair(lambda a, b: (0 * a, b))),
        pair("second image dimmed", "image spoilt", _per_pair(lambda a, b: (a, b / 2))),
        pair("images blended", "image spoilt", _per_pair(_blended)),
        pair("boundary off by four patches", "boundary", _per_pair(_off)),
    ]


def _chosen(checkpoint: Checkpoint, pattern: str) -> list[str]:
    names = [name for name in checkpoint.tensors if re.search(pattern, name)]
    assert names, pattern
    return names


def _times(pattern: str, factor: float) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        for name in _chosen(checkpoint, pattern):
            checkpoint.tensors[name] = checkpoint.tensors[name].float() * factor

    return edit


def _ones(pattern: str) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        for name in _chosen(checkpoint, pattern):
            checkpoint.tensors[name] = torch.ones_like(checkpoint.tensors[name])

    return edit


def _scaled_to(pattern: str, bits: int) -> Edit:
    largest = 2 ** (bits - 1) - 1

    def edit(checkpoint: Checkpoint) -> None:
        for name in _chosen(checkpoint, pattern):
            tensor = checkpoint.tensors[name].float()
            if tensor.ndim > 1:
                rows = tensor.flatten(1)
                scale = rows.abs().amax(1, keepdim=True) / largest
                checkpoint.tensors[name] = ((rows / scale).round() * scale).view_as(tensor)

    return edit


def _no_head(layer: int, head: int) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        name = f"model.layers.{layer}.self_attn.o_proj.weight"
        checkpoint.tensors[name][:, 32 * head : 32 * (head + 1)] = 0

    return edit


def _no_vision_head(head: int) -> Edit:
    def edit(checkpoint: Checkpoint) -> None:
        for name in _chosen(checkpoint, r"^visual.*attn\.proj\.weight"):
            checkpoint.tensors[name][:, 32 * head : 32 * (head + 1)] = 0

    return edit


def _scaled_logits(factor: float) -> Change:
    def change(model: Any) -> None:
        model.lm_head.register_forward_hook(lambda module, given, found: found * factor)

    return change


def _capped_logits(cap: float) -> Change:
    def change(model: Any) -> None:
        model.lm_head.register_forward_hook(
            lambda module, given, found: cap * torch.tanh(found / cap)
        )

    return change


def _epsilon(value: float) -> Change:
    def change(model: Any) -> None:
        for module in model.model.language_model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = value

    return change


def _window(size: int) -> Change:
    """Let no token of the language model attend further back than `size` tokens."""

    def change(model: Any) -> None:
        def limited(module: Any, arguments: Any, named: dict[str, Any]) -> Any:
            length = (
                named["hidden_states"].shape[1]
                if "hidden_states" in named
                else (arguments[0].shape[1])
            )
            back = torch.arange(length)[:, None] - torch.arange(length)
            mask = torch.where((back >= 0) & (back < size), 0.0, torch.finfo(torch.float32).min)
            dtype = next(module.parameters()).dtype
            return arguments, {**named, "attention_mask": mask[None, None].to(dtype)}

        for layer in model.model.language_model.layers:
            layer.self_attn.register_forward_pre_hook(limited, with_kwargs=True)

    return change


def _on_patches(function: Callable[[Tensor], Tensor]) -> Callable[[Batch], Batch]:
    def rewrite(batch: Batch) -> Batch:
        patches = batch.patches.view(len(batch.patches), 3, PATCH * PATCH)
        return replace(batch, patches=function(patches).reshape(len(batch.patches), -1))

    return rewrite


def _raw(patches: Tensor) -> Tensor:
    return patches * _STD + _MEAN


_raw_of = _raw


def _square(patches: Tensor) -> Tensor:
    return patches.view(len(patches), 3, PATCH, PATCH)


def _blurred(patches: Tensor) -> Tensor:
    small = torch.nn.functional.avg_pool2d(_square(patches), 2)
    return small.repeat_interleave(2, -1).repeat_interleave(2, -2).flatten(2)


def _last_blank(batch: Batch) -> Batch:
    """Lose the last four patches of every image."""
    patches, end = batch.patches.clone(), 0
    for rows, columns in batch.grids:
        end += rows * columns
        patches[end - 4 : end] = 0
    return replace(batch, patches=patches)


def _per_pair(function: Callable[[Tensor, Tensor], Sequence[Tensor]]) -> Callable[[Batch], Batch]:
    """Apply ``function`` to the patches of both images of each question that has two."""

    def rewrite(batch: Batch) -> Batch:
        sizes = [rows * columns for rows, columns in batch.grids]
        parts, at = list(batch.patches.split(sizes)), 0
        for question in batch.questions:
            own = len(question.scenes)
            if own == 2:
                parts[at : at + 2] = function(*parts[at : at + 2])
            at += own
        return replace(batch, patches=torch.cat(parts))

    return rewrite


def _like(patches: Tensor, other: Tensor) -> Tensor:
    """`patches`, repeated or cut to the number of the other's."""
    return patches.repeat(-(-len(other) // len(patches)), 1)[: len(other)]


def _blended(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    return 0.8 * one + 0.2 * _like(other, one), 0.8 * other + 0.2 * _like(one, other)


def _off(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat((one, other)).roll(4, 0)
    return both[: len(one)], both[len(one) :]
