"""The optimisers: Muon for the vision encoder's matrices, AdamW for everything else.

Muon learns shapes and digits in about two thirds of AdamW's steps. The merger's matrices use AdamW
because they are large, and Muon's cost grows with the cube of the smaller dimension.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

ADAMW_RATE = 2e-3
MUON_RATE = 6e-3
DECAY = 0.05


class Optimiser:
    """Steps all parameters together; ``share`` scales the vision encoder's learning rates."""

    def __init__(self, seeing: nn.Module, others: Iterable[Tensor], share: float = 1.0) -> None:
        matrices = [p for p in seeing.get_submodule("blocks").parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        rest = [p for p in seeing.parameters() if id(p) not in taken]
        groups = []
        for parameters, scale in ((rest, share), (list(others), 1.0)):
            for bulky, decay in ((True, DECAY), (False, 0.0)):
                chosen = [p for p in parameters if (p.ndim >= 2) == bulky]
                groups.append({"params": chosen, "weight_decay": decay, "peak": scale * ADAMW_RATE})
        muon = {"params": matrices, "weight_decay": DECAY, "peak": share * MUON_RATE}
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon([muon], adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        ]

    def step(self, loss: Tensor, rate: float) -> None:
        """Minimise ``loss`` with ``rate`` times the peak learning rates."""
        groups = [group for each in self.optimisers for group in each.param_groups]
        for each in self.optimisers:
            each.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        for group in groups:
            group["lr"] = rate * group["peak"]
        for each in self.optimisers:
            each.step()
