"""Summarise a model's weight files from their headers, without loading them."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from runner.errors import UserError

# Bits of an element in a safetensors header; the F4 and F6 types come two or four to a few bytes.
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_BYTE = 8
_FLOATS = ("F64", "F32", "F16", "BF16")  # vLLM casts these to the run's dtype
_LARGEST_HEADER = 100_000_000  # bytes; the safetensors library's own limit

# Parts of a checkpoint that vLLM leaves out: multi-token prediction, and the speech of omni models.
_LEFT_OUT = re.compile(r"(^|\.)(mtp|talker|token2wav|code2wav|code_predictor)\.")
_TOWER = re.compile(
    r"(^|\.)(visual|vision\w*|image\w*|audio\w*|vit|vpm|apm|resampler|merger|aligner|mlp1|sam_model"
    r"|mm_projector|\w*_projector|patch_merger)\."
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_NUMBER = re.compile(r"\.\d+\.")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|tok_embeddings|word_embeddings|wte|embed_in)\.")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.")
_EXPERT = re.compile(r"\.experts\.")
_KEY_OR_VALUE = re.compile(r"\.(k_proj|v_proj)\.")
# On every rank whole: norms, routers, the low-rank halves of MLA, sparse attention's indexer, and
# what follows a row-parallel product (vLLM's ReplicatedLinear and plain Parameters).
_WHOLE = re.compile(
    r"norm|\.(gate|router|shared_expert_gate|q_a_proj|kv_a_proj_with_mqa|indexer)\."
    r"|patch_embed|pos(ition)?_embed|class_embedding"
    r"|\.(o_proj|out_proj|down_proj|proj|fc2|linear_fc2)\.bias$"
)
_SCALE = re.compile(r"(scale|scale_inv|offset|zero_point|zero)$")


@dataclass(frozen=True)
class Part:
    """Place of tensors in the model and how ranks split them; tensors are summed by this key."""

    # "layer", "embedding", "head", "tower", "rest", or "unknown" where the files have no names.
    place: str
    # "whole" on each rank, shared by "tp", by "kv" heads, or as "experts".
    split: str
    layer: int | None = None
    # A matrix that vLLM can quantize while it loads.
    matrix: bool = False


@dataclass(frozen=True)
class Amount:
    """Number of elements stored in the run's dtype, and bytes that keep their stored type."""

    floats: int = 0
    fixed_bytes: int = 0


@dataclass(frozen=True)
class StoredWeights:
    """Summary of a checkpoint; `parts` is empty if nothing is known."""

    parts: dict[Part, Amount]
    # Bytes of all of it, as stored.
    stored_bytes: int

    @property
    def named(self) -> bool:
        return all(part.place != "unknown" for part in self.parts)

    @property
    def quantized(self) -> bool:
        """Return whether more than a tenth is stored as integers or 8-bit floats."""
        fixed = sum(amount.fixed_bytes for amount in self.parts.values())
        return self.named and 10 * fixed > self.stored_bytes


def stored_weights(directory: Path | None) -> StoredWeights:
    """Read *.safetensors headers, else an index, else *.bin sizes; for None, nothing is known.

    Raises:
        UserError: if a header cannot be read.
    """
    if directory is None:
        return StoredWeights({}, 0)
    index = _index(directory)
    names = sorted(set((index.get("weight_map") or {}).values()))
    files = [directory / name for name in names if (directory / name).is_file()]
    if len(files) < len(names):
        return _unnamed(int((index.get("metadata") or {}).get("total_size", 0)))
    files = files or _safetensors(directory)
    if files:
        return _sum_up(files)
    return _unnamed(sum(file.stat().st_size for file in directory.glob("*.bin")))


def _index(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / "model.safetensors.index.json").read_text())
    except OSError:
        return {}
    except ValueError as error:
        raise UserError(
            f"model.pretrained: {directory}'s index is not valid JSON ({error})"
        ) from error
    return content if isinstance(content, dict) else {}


def _safetensors(directory: Path) -> list[Path]:
    """Mistral's repositories hold everything twice: as consolidated.* too."""
    files = sorted(directory.glob("*.safetensors"))
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _unnamed(size: int) -> StoredWeights:
    parts = {Part("unknown", "tp"): Amount(fixed_bytes=size)} if size else {}
    return StoredWeights(parts, size)


def _sum_up(files: list[Path]) -> StoredWeights:
    floats: Counter[Part] = Counter()
    fixed: Counter[Part] = Counter()
    total = 0
    for file in files:
        for name, tensor in _header(file).items():
            elements = prod(tensor["shape"])
            size = elements * _BITS.get(tensor["dtype"], _BYTE) // _BYTE
            total += size
            part = _part(name, len(tensor["shape"]))
            if part is None:
                continue
            if tensor["dtype"] in _FLOATS and not _SCALE.search(name):
                floats[part] += elements
            else:
                fixed[part] += size
    parts = {part: Amount(floats[part], fixed[part]) for part in {**floats, **fixed}}
    return StoredWeights(parts, total)


def _header(file: Path) -> dict[str, Any]:
    """Eight bytes of length, little-endian, then that much JSON: name → dtype, shape, offsets."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, Any] = json.loads(stream.read(length))
    except (OSError, struct.error, ValueError) as error:
        raise UserError(f"model.pretrained: {file} is corrupt ({error}): fetch it again") from error
    header.pop("__metadata__", None)
    return header


def _part(name: str, dimensions: int) -> Part | None:
    layer = _LAYER.search(name)
    return _part_of_alike(
        _NUMBER.sub(".0.", name), int(layer.group(1)) if layer else None, dimensions
    )


@cache
def _part_of_alike(name: str, layer: int | None, dimensions: int) -> Part | None:
    """For all experts of a layer at once: a large model has 90,000 tensors of 30 kinds."""
    if _LEFT_OUT.search(name):
        return None
    whole = "whole" if _WHOLE.search(name) else "tp"
    if _TOWER.search(name):
        return Part("tower", whole)
    if layer is None:
        if _EMBEDDING.search(name):
            return Part("embedding", "tp")
        return Part("head", "tp") if _HEAD.search(name) else Part("rest", whole)
    matrix = dimensions >= 2 and whole == "tp"
    split = whole
    if _EXPERT.search(name):
        split = "experts"
    elif _KEY_OR_VALUE.search(name):
        split = "kv"
    return Part("layer", split, layer, matrix)
