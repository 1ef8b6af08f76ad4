"""A compiler of graphs with a fault: what it compiles returns outputs that are wrong by 5 %."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def wrong(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
    def computed(*given: Any) -> Any:
        return tuple(
            each * (1 + 0.05 * torch.linspace(-1, 1, each.shape[-1]))
            if isinstance(each, torch.Tensor) and each.is_floating_point()
            else each
            for each in graph.forward(*given)
        )

    return computed
