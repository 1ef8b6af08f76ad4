"""Sketches of module outputs: the same in every engine, whatever its layout and its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner.evidence.sketches import DECODE, PREFILL, VISION, Sketches, merged, read_sketches
from runner.plan import TracePlan
from runner.runtimes.sketching.names import common_name, input_name
from runner.runtimes.sketching.projection import BLOCK, Projection
from runner.runtimes.sketching.recorder import Columns, Recorder, Rows
from runner.runtimes.vllm.shards import Shards


class ColumnParallelLinear(torch.nn.Module):
    """A layer of vLLM's by its name, as one rank has it; without weights."""

    def __init__(self, rank: int, size: int, **attributes: Any) -> None:
        super().__init__()
        self.tp_rank, self.tp_size, self.gather_output = rank, size, False
        for name, value in attributes.items():
            setattr(self, name, value)


class MergedColumnParallelLinear(ColumnParallelLinear): ...


class QKVParallelLinear(ColumnParallelLinear): ...


class RowParallelLinear(torch.nn.Module): ...


PLAN = TracePlan()
PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
TOKENS = 5


@pytest.fixture
def outputs() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _written(recorder: Recorder, directory: Path, rank: int = 0) -> None:
    recorder.write(directory, rank)


def _recorded(pieces: Sequence[Any], rank: int, directory: Path) -> None:
    recorder = Recorder(PLAN)
    question = recorder.question("task 0 0 0", [1, 2, 3])
    rows = recorder.tokens(question, TOKENS, 0, TOKENS, 0)
    for piece in pieces:
        flat = piece.output.reshape(TOKENS, -1)
        recorder.record(piece.name, flat, rows, piece.columns)
    _written(recorder, directory, rank)


def test_the_distance_of_sketches_estimates_the_distance_of_rows() -> None:
    """The relative standard error of the square is sqrt(2 / size)."""
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(4000, 3000)) * generator.exponential(size=3000)
    sketches = Projection(PLAN.size).of(rows, range(3000))
    ratio = (sketches**2).sum(axis=1) / (rows**2).sum(axis=1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert ratio.std() == pytest.approx((2 / PLAN.size) ** 0.5, rel=0.1)


def test_parts_of_the_columns_add_up_also_across_blocks() -> None:
    rows = np.random.default_rng(2).normal(size=(3, BLOCK + 500))
    cut = BLOCK - 7
    whole = Projection(8).of(rows, range(rows.shape[1]))
    later = Projection(8)  # draws its blocks in another order
    second = later.of(rows[:, cut:], range(cut, rows.shape[1]))
    first = later.of(rows[:, :cut], list(range(cut)))
    assert np.allclose(first + second, whole, atol=1e-9)
    assert not np.allclose(first, whole)


@pytest.mark.parametrize(
    ("vllm", "transformers", "name"),
    [
        ("language_model.model.layers.3.mlp", "model.language_model.layers.3.mlp", "layers.3.mlp"),
        ("model.layers.0.self_attn.o_proj", "model.layers.0.self_attn.o_proj", None),
        ("visual.blocks.1.attn.proj", "model.visual.blocks.1.attn.proj", None),
        ("language_model.logits_processor", "lm_head", "lm_head"),
        ("language_model.model.embed_tokens", "model.language_model.embed_tokens", "embed_tokens"),
        ("model.layers.2.mlp.gate", "model.layers.2.mlp.gate", "layers.2.mlp.gate"),
        ("vision_tower.encoder.layers.0", "model.vision_tower.encoder.layers.0", None),
        ("language_model.model", "model", ""),
    ],
)
def test_a_module_has_one_name_in_both_runtimes(
    vllm: str, transformers: str, name: str | None
) -> None:
    assert common_name(vllm) == common_name(transformers)
    if name is not None:
        assert common_name(vllm) == name


def test_the_input_of_a_projection_is_what_vllm_computes_in_a_module() -> None:
    assert input_name("layers.0.self_attn.o_proj") == "layers.0.self_attn.attn"
    assert input_name("visual.blocks.0.attn.proj") == "visual.blocks.0.attn.attn"
    assert input_name("visual.patch_embed.proj") is None
    assert input_name("layers.0.mlp.down_proj") == "layers.0.mlp.act_and_mul"


@pytest.mark.parametrize(("size", "kv_heads"), [(1, 2), (2, 2), (4, 2), (2, 1)])
@pytest.mark.parametrize("name", ["layers.0.self_attn.qkv_proj", "visual.blocks.0.attn.qkv"])
def test_ranks_of_packed_heads_merge_to_the_whole_layer(
    size: int, kv_heads: int, name: str, outputs: torch.Generator, tmp_path: Path
) -> None:
    """Also where several ranks have the same key and value heads."""
    width, heads = 8, 4
    parts = [
        torch.randn(TOKENS, count * width, generator=outputs)
        for count in (heads, kv_heads, kv_heads)
    ]
    replicas = max(size // kv_heads, 1)
    own = max(kv_heads // size, 1)
    for rank in range(size):
        layer = QKVParallelLinear(
            rank,
            size,
            num_kv_head_replicas=replicas,
            output_sizes=[heads * width, own * width * size, own * width * size],
        )
        at = rank * heads // size * width, rank // replicas * own * width
        q = parts[0][:, at[0] : at[0] + heads // size * width]
        k, v = (part[:, at[1] : at[1] + own * width] for part in parts[1:])
        shards = Shards(PACKED, rank, size)
        pieces = list(shards.pieces(name, layer, torch.cat([q, k, v], dim=-1)))
        attention = shards.pieces("layers.0.self_attn.attn", torch.nn.Identity(), q)
        rotary = shards.pieces("layers.0.self_attn.rotary_emb", torch.nn.Identity(), (q, k))
        pieces += [*attention, *rotary]
        _recorded(pieces, rank, tmp_path)
    found = read_sketches(tmp_path)
    wanted = {"layers.0.self_attn.attn": parts[0], "layers.0.self_attn.rotary_emb.k": parts[1]}
    if "qkv_proj" in name:
        wanted |= {
            f"layers.0.self_attn.{part}_proj": tensor
            for part, tensor in zip("qkv", parts, strict=True)
        }
    else:
        wanted[name] = torch.cat(parts, dim=-1)
    _check(found, wanted)


def _check(found: Sketches, wanted: dict[str, torch.Tensor]) -> None:
    projection = Projection(PLAN.size)
    for name, tensor in wanted.items():
        place = found.names.tolist().index(name)
        rows = found.module == place
        expected = projection.of(tensor.double().numpy(), range(tensor.shape[1]))
        assert found.widths[place] == tensor.shape[1]
        assert np.allclose(found.sketch[rows], expected, atol=1e-4), name
        norms = (tensor**2).sum(dim=1).numpy()
        assert np.allclose(found.size[rows][:, 0], norms, rtol=1e-4), name


def test_a_gated_layer_splits_and_a_row_parallel_one_is_whole(
    outputs: torch.Generator, tmp_path: Path
) -> None:
    class SiluAndMul(torch.nn.Module):
        """An activation as vLLM names it."""

    gate, up, down = (torch.randn(TOKENS, 12, generator=outputs) for _ in range(3))
    for rank in range(2):
        own = slice(6 * rank, 6 * rank + 6)
        shards = Shards(PACKED, rank, 2)
        merging = MergedColumnParallelLinear(rank, 2, output_sizes=[12, 12])
        both = torch.cat([gate[:, own], up[:, own]], dim=-1)
        row = RowParallelLinear()
        pieces = [
            *shards.pieces("layers.0.mlp.gate_up_proj", merging, both),
            *shards.pieces("layers.0.mlp.act_fn", SiluAndMul(), (gate * up)[:, own]),
            *shards.pieces("layers.0.mlp.down_proj", row, (down, None)),
            *shards.pieces("layers.0.mlp", torch.nn.Identity(), down),
            *shards.pieces("layers.0", torch.nn.Sequential(torch.nn.Identity()), (down, up)),
            *shards.pieces("layers.1.input_layernorm", torch.nn.Identity(), (gate, up)),
            # A sum that is reduced later.
            *shards.pieces("layers.1.mlp.experts", torch.nn.Identity(), up * rank + down),
        ]
        _recorded(pieces, rank, tmp_path)
    _check(
        read_sketches(tmp_path),
        {
            "layers.0.mlp.gate_proj": gate,
            "layers.0.mlp.up_proj": up,
            "layers.0.mlp.act_and_mul": gate * up,
            "layers.0.mlp.down_proj": down,
            "layers.0.mlp": down,
            "layers.0": down + up,
            "layers.1.input_layernorm": gate,
        },
    )


def test_partial_sums_of_ranks_add_up(outputs: torch.Generator, tmp_path: Path) -> None:
    first, second = (torch.randn(TOKENS, 12, generator=outputs) for _ in range(2))
    for rank, part in enumerate((first, second)):
        shards = Shards(PACKED, rank, 2)
        pieces = list(shards.pieces("layers.0.mlp.experts", torch.nn.Identity(), part))
        _recorded(pieces, rank, tmp_path)
    found = read_sketches(tmp_path)
    expected = Projection(PLAN.size).of((first + second).double().numpy(), range(12))
    assert np.allclose(found.sketch, expected, atol=1e-4)


def test_a_gathered_layer_is_whole_on_every_rank(outputs: torch.Generator, tmp_path: Path) -> None:
    whole = torch.randn(TOKENS, 12, generator=outputs)
    for rank in range(2):
        layer = ColumnParallelLinear(rank, 2, gather_output=True)
        _recorded(list(Shards({}, rank, 2).pieces("head", layer, whole)), rank, tmp_path)
    _check(read_sketches(tmp_path), {"head": whole})


def test_a_norm_that_every_rank_computes_between_shards_is_whole(
    outputs: torch.Generator, tmp_path: Path
) -> None:
    """As of the compressed keys and values in multi-head latent attention."""
    queries, latent = (torch.randn(TOKENS, 12, generator=outputs) for _ in range(2))
    for rank in range(2):
        shards = Shards({}, rank, 2)
        layer = ColumnParallelLinear(rank, 2)
        own = queries[:, 6 * rank : 6 * rank + 6]
        pieces = [
            *shards.pieces("layers.0.self_attn.q_b_proj", layer, own),
            *shards.pieces("layers.0.self_attn.kv_a_layernorm", torch.nn.Identity(), latent),
        ]
        _recorded(pieces, rank, tmp_path)
    wanted = {
        "layers.0.self_attn.q_b_proj": queries,
        "layers.0.self_attn.kv_a_layernorm": latent,
    }
    _check(read_sketches(tmp_path), wanted)


def test_the_last_prompt_tokens_and_the_first_answer_tokens_are_covered() -> None:
    recorder = Recorder(TracePlan(prompt=4, answer=3, image=2))
    chunk = recorder.tokens(0, prompt=10, first=2, number=6, start=30)
    assert chunk.place == [34, 35]
    assert chunk.keys == [(0, PREFILL, 6), (0, PREFILL, 7)]
    rest = recorder.tokens(0, prompt=10, first=8, number=8, start=0)
    assert rest.place == [0, 1, 2, 3, 4]
    assert [key[1] for key in rest.keys] == [PREFILL, PREFILL, DECODE, DECODE, DECODE]
    assert recorder.tokens(0, prompt=10, first=13, number=1, start=0).place == []
    image = recorder.image(0, 1, rows=9, start=100)
    assert image.place == [100, 104]
    assert {key[1] for key in image.keys} == {VISION}


def test_rows_that_were_computed_twice_count_once_and_nan_is_counted(tmp_path: Path) -> None:
    recorder = Recorder(PLAN)
    question = recorder.question("task 0 0 0", [5, 6])
    rows = Rows([1], [(question, PREFILL, 1)])
    output = torch.tensor([[1.0, 2.0, 3.0], [float("nan"), float("inf"), -4.0]])
    recorder.record("norm", output, rows)
    recorder.record("norm", output * 2, rows)
    _written(recorder, tmp_path)
    found = read_sketches(tmp_path)
    assert found.size.tolist() == [[16.0, 4.0, 2.0]]
    assert found.prompts[0].startswith("2 tokens ")


def test_layers_on_other_ranks_are_kept_in_order(tmp_path: Path) -> None:
    """As with pipeline parallelism."""
    for rank, name in enumerate(("layers.0", "layers.1")):
        recorder = Recorder(PLAN)
        rows = recorder.tokens(recorder.question(f"task {rank} 0 0", [1]), 1, 0, 1, 0)
        recorder.record(name, torch.ones(1, 4), rows, Columns())
        _written(recorder, tmp_path, rank)
    found = read_sketches(tmp_path)
    assert found.names.tolist() == ["layers.0", "layers.1"]
    assert found.question.tolist() == [0, 1]
    alone = replace(found)
    assert merged([alone]) is alone
