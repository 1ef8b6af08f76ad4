"""The experts that a vLLM model's routers choose. Read in vllm 0.32.0 (layers/fused_moe)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from runner.runtimes.sketching.names import common_name

Listener = Callable[[torch.Tensor], None]
EXPERTS = "experts"
# A layer with any of these does not choose by its logits alone. They are attributes of the layer,
# of its router or of its routed experts.
OTHER = (
    *("use_grouped_topk", "custom_routing_function", "e_score_correction_bias"),
    *("_hash_indices_table", "bias_vl", "zero_expert_type"),
)
GROUPS = "num_expert_group"


@dataclass(frozen=True)
class Router:
    """The choices of one block of experts, of which there are `number`.

    `told` says whether the router itself tells them. Otherwise they are those of its largest
    logits: another platform's kernels can choose without the router.
    """

    number: int
    told: bool
    listen: Callable[[Listener], Any]


def routers(model: torch.nn.Module) -> Iterator[tuple[str, Router]]:
    """Yield what tells the choices of each block of experts, by the block's name."""
    for path, module in model.named_modules():
        parent, _, own = path.rpartition(".")
        router: Any = getattr(module, "router", None)
        block = common_name(parent)
        if hasattr(router, "set_capture_fn"):
            yield block, Router(router.global_num_experts, True, _both(router))
        parts = (module, router, getattr(module, "routed_experts", None))
        if own != EXPERTS or not all(map(_by_logits, parts)):
            continue
        gate = getattr(model.get_submodule(parent), "gate", None)
        top_k = getattr(module, "top_k", getattr(router, "top_k", None))
        if isinstance(gate, torch.nn.Module) and top_k:
            number = getattr(module, "global_num_experts", 0)
            yield block, Router(number, False, _largest(gate, top_k))


def _by_logits(part: Any) -> bool:
    """Whether a part of a layer has nothing else that decides about its choices."""
    values = [getattr(part, name, None) for name in OTHER]
    groups = getattr(part, GROUPS, None) or 1
    return groups <= 1 and all(each is None or each is False for each in values)


def _both(router: Any) -> Callable[[Listener], None]:
    """Let a listener hear the router, and whoever heard it before."""

    def listen(listener: Listener) -> None:
        earlier = router.capture_fn

        def told(chosen: torch.Tensor) -> None:
            if earlier is not None:
                earlier(chosen)
            listener(chosen)

        router.set_capture_fn(told)

    return listen


def _largest(gate: torch.nn.Module, top_k: int) -> Callable[[Listener], None]:
    def listen(listener: Listener) -> None:
        def left(_: torch.nn.Module, __: Any, output: Any) -> None:
            logits = output[0] if isinstance(output, tuple) else output
            listener(logits.topk(top_k, dim=-1).indices)

        gate.register_forward_hook(left)

    return listen
