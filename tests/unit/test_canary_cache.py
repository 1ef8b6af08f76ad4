"""The canary's fault in the KV cache: which positions read which keys and values."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runner.canary import WEIGHTS
from runner.canary.data import questions

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from runner.canary.batch import Batch  # noqa: E402
from runner.canary.cache_faults import END, START, cache_faults, stale_attention  # noqa: E402
from runner.canary.fast import read, see  # noqa: E402
from runner.canary.loaded import Loaded  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def healthy() -> Loaded:
    return Loaded.open(WEIGHTS)


@pytest.fixture(scope="module")
def faulty(healthy: Loaded) -> Loaded:
    (fault,) = cache_faults()
    model = copy.deepcopy(healthy.model)
    assert fault.change is not None
    fault.change(model)
    return replace(healthy, model=model)


def states(stack: Loaded, batch: Batch) -> Tensor:
    """The last hidden states, (batch, length, hidden)."""
    with torch.no_grad():
        tokens = see(stack.model, batch.patches, batch.grids)
        return read(stack.model, batch.ids, tokens, batch.positions)


class _Layer(torch.nn.Module):
    num_key_value_groups = 1
    is_causal = True


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one position to everything it is given, (heads, width)."""
    scores = torch.einsum("hw,hpw->hp", query, key) / math.sqrt(query.shape[-1])
    return torch.einsum("hp,hpw->hw", scores.softmax(-1), value)


def test_positions_after_the_block_read_it_from_the_question_before() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, 40, 8) for _ in range(3))
    found, _ = stale_attention(_Layer(), query, key, value, None)
    for row in range(3):
        for at in (0, START, END - 1):  # the block itself is computed, not read
            own = (part[row, :, : at + 1] for part in (key, value))
            assert torch.allclose(found[row, at], by_hand(query[row, :, at], *own), atol=1e-6)
        mixed = [
            torch.cat((part[row, :, :START], part[row - 1, :, START:END], part[row, :, END:]), 1)
            for part in (key, value)
        ]
        for at in (END, 39):
            wanted = by_hand(query[row, :, at], *(part[:, : at + 1] for part in mixed))
            assert torch.allclose(found[row, at], wanted, atol=1e-6)


def test_only_what_follows_the_block_differs(healthy: Loaded, faulty: Loaded) -> None:
    asked = questions("place", 4)
    batch = healthy.batch(asked, [each.target for each in asked])
    moved = (states(faulty, batch) - states(healthy, batch)).abs().amax((0, 2))
    assert moved[:END].max() < 1e-5
    assert moved[END] > 1e-2


def test_equal_questions_have_equal_blocks(healthy: Loaded, faulty: Loaded) -> None:
    (one,) = questions("place", 1)
    batch = healthy.batch([one, one], [one.target] * 2)
    assert torch.allclose(states(faulty, batch), states(healthy, batch), atol=1e-5)
