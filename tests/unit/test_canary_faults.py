"""The canary's faults: what each changes in the files."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.canary import WEIGHTS

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from runner.canary.damaged import main, write_damaged  # noqa: E402
from runner.canary.fault import Fault  # noqa: E402
from runner.canary.faults import all_faults, file_faults  # noqa: E402
from runner.canary.weight_faults import weight_faults  # noqa: E402

TEXT, BLOCKS = range(4), range(3)
EMBEDDING = "model.embed_tokens.weight"
O_PROJ = [f"model.layers.{i}.self_attn.o_proj.weight" for i in TEXT]
DOWN = [f"model.layers.{i}.mlp.down_proj.weight" for i in TEXT]
PATCHES = "visual.patch_embed.proj.weight"
HEALTHY = load_file(WEIGHTS / "model.safetensors")
MATRICES = {name for name, tensor in HEALTHY.items() if tensor.ndim > 1} - {EMBEDDING}

# The tensors, and the keys of config.json, that each fault changes.
TENSORS: dict[str, set[str]] = {
    **dict.fromkeys((f"int{bits}-weights-per-row" for bits in (3, 4, 5, 6, 8)), MATRICES),
    **dict.fromkeys((f"fp8-weights-e4m3-per-{x}" for x in ("tensor", "channel")), MATRICES),
    **{f"text-attention-{i}-zeroed": {O_PROJ[i]} for i in TEXT},
    **{f"text-mlp-{i}-zeroed": {DOWN[i]} for i in TEXT},
    **{
        f"vision-{part}-{i}-zeroed": {
            f"visual.blocks.{i}.{name}.{kind}" for kind in ("weight", "bias")
        }
        for i in BLOCKS
        for part, name in (("attention", "attn.proj"), ("mlp", "mlp.down_proj"))
    },
    "q-k-v-bias-dropped": {name for name in HEALTHY if re.search(r"layers.*[qkv]_proj.bias", name)},
    "attention-head-0-of-layer-1-zeroed": {O_PROJ[1]},
    "text-layer-2-skipped": {O_PROJ[2], DOWN[2]},
    "partial-sum-of-rank-1-of-2-missing": {*O_PROJ, *DOWN},
    "gate-and-up-projections-swapped": {
        f"model.layers.{i}.mlp.{name}_proj.weight" for i in TEXT for name in ("gate", "up")
    },
    "embedding-shard-of-rank-1-shifted-by-one-row": {EMBEDDING},
    "two-embedding-rows-swapped": {EMBEDDING},
    "lm-head-times-0.9": {"lm_head.weight"},
    "bgr-instead-of-rgb": {PATCHES},
}
TIE = "tie_word_embeddings"
CONFIG: dict[str, dict[str, Any]] = {
    "lm-head-times-0.9": {TIE: False, f"text_config.{TIE}": False},
    "rope-theta-times-1.1": {"text_config.rope_parameters.rope_theta": 11_000},
    "rope-theta-times-2": {"text_config.rope_parameters.rope_theta": 20_000},
    "rope-theta-times-10": {"text_config.rope_parameters.rope_theta": 100_000},
    "rope-theta-times-100": {"text_config.rope_parameters.rope_theta": 1_000_000},
    "rmsnorm-epsilon-1e-5-to-1e-2": {"text_config.rms_norm_eps": 0.01},
    "vision-every-block-full-attention": {"vision_config.fullatt_block_indexes": [0, 1, 2]},
    "vision-every-block-windowed": {"vision_config.fullatt_block_indexes": []},
}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # CLIP's
REVERSED = {"image_mean": MEAN[::-1], "image_std": STD[::-1]}
PREPROCESSOR: dict[str, dict[str, Any]] = {
    "mean-and-std-ignored": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "mean-and-std-in-bgr-order": REVERSED,
    "bgr-instead-of-rgb": REVERSED,
}
TEMPLATE = {
    "question-cut-to-its-last-100-characters",
    "no-generation-prompt",
    "extra-token-at-the-start",
    "system-message-dropped",
}


def flat(value: dict[str, Any], head: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flat(item, f"{head}{key}.") if isinstance(item, dict) else {f"{head}{key}": item}
    return found


def changed(directory: Path, name: str) -> dict[str, Any]:
    """The keys of a JSON file that differ from the canary's, with their new values."""
    now, then = (flat(json.loads((d / name).read_text())) for d in (directory, WEIGHTS))
    assert now.keys() == then.keys()
    return {key: value for key, value in now.items() if value != then[key]}


# The files


def test_every_fault_has_a_key_and_a_reason() -> None:
    faults = all_faults()
    assert len({fault.key for fault in faults}) == len(faults)
    for fault in faults:
        assert fault.reality.endswith(".") and fault.reality.count(". ") == 0
    assert set(file_faults()) == {*TENSORS, *CONFIG, *PREPROCESSOR, *TEMPLATE}


@pytest.mark.parametrize("key", sorted(file_faults()))
def test_a_damaged_copy_differs_in_nothing_else(key: str, damaged: Callable[[str], Path]) -> None:
    directory = damaged(key)
    tensors = load_file(directory / "model.safetensors")
    assert tensors.keys() - HEALTHY.keys() == TENSORS.get(key, set()) - HEALTHY.keys()
    assert HEALTHY.keys() <= tensors.keys()
    different = {
        name
        for name, tensor in tensors.items()
        if name not in HEALTHY
        or tensor.dtype != HEALTHY[name].dtype
        or not torch.equal(tensor, HEALTHY[name])
    }
    assert different == TENSORS.get(key, set())
    assert changed(directory, "config.json") == CONFIG.get(key, {})
    assert changed(directory, "preprocessor_config.json") == PREPROCESSOR.get(key, {})
    names = {path.name for path in WEIGHTS.iterdir()}
    assert {path.name for path in directory.iterdir()} == names
    files = {
        "model.safetensors": TENSORS,
        "config.json": CONFIG,
        "preprocessor_config.json": PREPROCESSOR,
        "chat_template.jinja": TEMPLATE,
    }
    touched = {name for name, faults in files.items() if key in faults}
    for name in names:
        same = (directory / name).read_bytes() == (WEIGHTS / name).read_bytes()
        assert same == (name not in touched), name


def test_the_command_writes_a_copy_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(key: str) -> str:
        monkeypatch.setattr(sys, "argv", ["damaged", key, str(tmp_path / "copy")])
        main()
        return (tmp_path / "copy" / "chat_template.jinja").read_text()

    assert "assistant" not in run("no-generation-prompt")
    for key, message in (
        ("no-generation-prompt", f"DIR: {tmp_path / 'copy'} exists"),
        ("no-such", "there is no fault 'no-such'. List them with --help"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(key)
        assert message in capsys.readouterr().err


def test_a_fault_outside_files_has_no_copy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="isn't in the files of a model: x"):
        write_damaged(Fault("x", "Y."), tmp_path / "x")
    assert not (tmp_path / "x").exists()


# Rounded weights


@pytest.mark.parametrize("bits", [8, 6, 5, 4, 3])
def test_integers_are_the_nearest_of_their_grid(bits: int, damaged: Callable[[str], Path]) -> None:
    tensors = load_file(damaged(f"int{bits}-weights-per-row") / "model.safetensors")
    largest = {8: 127, 6: 31, 5: 15, 4: 7, 3: 3}[bits]
    for name in MATRICES:
        rows, before = tensors[name].flatten(1), HEALTHY[name].float().flatten(1)
        step = before.abs().amax(1, keepdim=True) / largest
        whole = rows / step
        assert torch.allclose(whole, whole.round(), atol=1e-4)
        assert whole.abs().max() <= largest + 1e-4
        assert ((rows - before).abs() <= step / 2 * 1.0001).all()


@pytest.mark.parametrize("scope", ["tensor", "channel"])
def test_fp8_weights_are_the_nearest_values_of_e4m3(
    scope: str, damaged: Callable[[str], Path]
) -> None:
    """The values of e4m3 as its specification (arXiv 2209.05433) lists them, without NaN."""
    subnormal = [m / 8 * 2**-6 for m in range(8)]
    normal = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1]
    grid = torch.tensor(subnormal + normal)
    assert len(grid) == 127 and grid.max() == 448
    tensors = load_file(damaged(f"fp8-weights-e4m3-per-{scope}") / "model.safetensors")
    for name in (O_PROJ[0], DOWN[3], "visual.merger.mlp.0.weight"):
        before = HEALTHY[name].float()
        largest = before.abs().amax(1, keepdim=True) if scope == "channel" else before.abs().max()
        scale = largest / 448
        distances = ((before / scale).abs()[..., None] - grid).abs()
        after = (tensors[name] / scale).abs()
        assert torch.allclose((after - (before / scale).abs()).abs(), distances.amin(-1), atol=1e-3)


def test_weight_faults_leave_the_shipped_weights_alone(tmp_path: Path) -> None:
    before = (WEIGHTS / "model.safetensors").read_bytes()
    write_damaged(weight_faults()[0], tmp_path / "copy")
    assert (WEIGHTS / "model.safetensors").read_bytes() == before
