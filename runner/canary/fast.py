"""A fast forward pass for training over batches of mixed image sizes, on the real model's weights.

transformers' vision encoder makes one attention call for every window of every image, which would
dominate the training time. The same arithmetic is written here for padded batches: all linear
layers see the packed patches of all images, and only attention is padded, with a mask instead of a
reordering by windows. The language model is transformers' own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.canary.pixels import MERGE, Grid

WINDOW = 2  # tokens along one side of an attention window (config: window_size of 56 pixels)


def patch_positions(grid: Grid) -> Tensor:
    """(row, column) of each patch of one image, in patch order; shape (patches, 2)."""
    rows, columns = grid
    coordinates = torch.stack(
        torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1
    )
    blocks = coordinates.view(rows // MERGE, MERGE, columns // MERGE, MERGE, 2)
    return blocks.transpose(1, 2).reshape(rows * columns, 2)


@dataclass(frozen=True)
class Layout:
    """Positions and attention masks for the patches of a batch of images of different sizes.

    ``slots`` (patches,) is each patch's index in the padded (images * longest) layout, and
    ``positions`` (patches, 2) its row and column. The masks, of shape (images, 1, longest,
    longest), let patches attend to the whole image (``whole``) or to their window (``window``).
    """

    images: int
    longest: int
    slots: Tensor
    positions: Tensor
    whole: Tensor
    window: Tensor

    @classmethod
    def of(cls, grids: Sequence[Grid]) -> "Layout":
        """Lay out images with these grids (rows, columns in patches)."""
        lengths = [rows * columns for rows, columns in grids]
        longest = max(lengths)
        positions = torch.cat([patch_positions(grid) for grid in grids])
        image = torch.repeat_interleave(torch.arange(len(grids)), torch.tensor(lengths))
        within = torch.cat([torch.arange(length) for length in lengths])
        slots = image * longest + within
        window_of_patch = positions // (WINDOW * MERGE)
        # The padding patches of an image share one window, so every row of either mask has
        # something to attend to and no softmax is empty.
        key = torch.full((len(grids) * longest, 2), -1)
        key[slots] = window_of_patch
        key = key.view(len(grids), longest, 2)
        real = key[..., 0] >= 0
        whole = real[:, :, None] == real[:, None, :]
        window = (key[:, :, None] == key[:, None, :]).all(-1)
        return cls(len(grids), longest, slots, positions, whole[:, None], window[:, None])


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states.chunk(2, -1)
    return (states * cos + torch.cat((-second, first), -1) * sin).to(states.dtype)


def see(model: Any, patches: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Image tokens from the vision encoder, shape (patches / 4, hidden).

    ``patches`` (patches, 3 * 14 * 14) holds all images one after another, each patch once (see
    ``pixels.patchify``); the tokens are in the same order.
    """
    visual = model.model.visual
    layout = Layout.of(grids)
    weight = visual.patch_embed.proj.weight  # (hidden, 3, 2, 14, 14)
    states = patches.to(weight.dtype) @ weight.sum(2).flatten(1).t()
    total, hidden = states.shape
    angles = (layout.positions[..., None] * visual.rotary_pos_emb.inv_freq).flatten(1)
    cos, sin = (torch.cat((f, f), -1)[:, None] for f in (angles.cos(), angles.sin()))
    slots = layout.slots
    for index, block in enumerate(visual.blocks):
        heads = block.attn.num_heads
        qkv = block.attn.qkv(block.norm1(states)).view(total, 3, heads, -1)
        query, key, value = qkv.unbind(1)
        padded = [
            part.new_zeros(layout.images * layout.longest, heads, part.shape[-1])
            .index_copy(0, slots, part)
            .view(layout.images, layout.longest, heads, -1)
            .transpose(1, 2)
            for part in (_rotate(query, cos, sin), _rotate(key, cos, sin), value)
        ]
        mask = layout.whole if index in visual.fullatt_block_indexes else layout.window
        mixed = F.scaled_dot_product_attention(*padded, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(-1, hidden)[slots]
        states = states + block.attn.proj(mixed)
        states = states + block.mlp(block.norm2(states))
    tokens: Tensor = visual.merger(states)
    return tokens


def read(model: Any, ids: Tensor, image_tokens: Tensor, positions: Tensor) -> Tensor:
    """Last hidden states of the language model, shape (batch, length, hidden).

    ``ids`` (batch, length) are padded on the right. ``image_tokens`` (n, hidden) replace the image
    placeholders in order; ``positions`` is (3, batch, length).
    """
    language = model.model.language_model
    embedded = language.embed_tokens(ids)
    where = (ids == model.config.image_token_id)[..., None].expand_as(embedded)
    embedded = embedded.masked_scatter(where, image_tokens.to(embedded.dtype))
    output = language(inputs_embeds=embedded, position_ids=positions, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states
