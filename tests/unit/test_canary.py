"""The canary: its data, its checkpoint, and the arithmetic that trained it."""

from __future__ import annotations

import ast
import io
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from runner.canary import DATASET, TASKS, WEIGHTS
from runner.canary.data import COLUMNS, FILE, IMAGES, ROWS, from_row, load, questions, to_row
from runner.canary.pixels import MAX_PIXELS, MIN_PIXELS, UNIT, fitted, patchify
from runner.canary.prompt import body, render
from runner.canary.questions import KINDS, LETTERS, ask
from runner.canary.scenes import NUMBER_SIZES, SIZES
from runner.platforms.cpu import cure_this_process

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MEGABYTE = 1 << 20


def stored(kind: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(DATASET / kind / FILE).to_pylist()
    return rows


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    torch = pytest.importorskip("torch")

    from runner.canary.damage import open_weights

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_weights()[0]
    torch.set_num_threads(before)


# The package


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, runner.canary; "
        "print([m for m in ('torch', 'numpy', 'PIL', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_shipped_files_are_small_and_complete() -> None:
    names = {path.name for path in WEIGHTS.iterdir()}
    assert names >= {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*")) < 5 * MEGABYTE
    assert sum(path.stat().st_size for path in DATASET.rglob("*")) < MEGABYTE


# The data set


@pytest.mark.parametrize("kind", KINDS)
def test_rows_follow_the_schema_of_mmmu(kind: str) -> None:
    rows = stored(kind)
    assert len(rows) == ROWS
    assert len({row["id"] for row in rows}) == ROWS
    for row in rows:
        assert tuple(row) == COLUMNS
        options = ast.literal_eval(row["options"])
        shown = [i for i in range(1, IMAGES + 1) if row[f"image_{i}"] is not None]
        assert [i for i in range(1, IMAGES + 1) if f"<image {i}>" in row["question"]] == shown
        if row["question_type"] == "open":
            assert options == [] and row["answer"].isdigit()
        else:
            assert row["question_type"] == "multiple-choice"
            assert row["answer"] in LETTERS[: len(options)]
            assert len(set(options)) == len(options)


def test_the_readme_lists_every_configuration() -> None:
    header = (DATASET / "README.md").read_text().split("---\n")[1]
    listed = yaml.safe_load(header)["configs"]
    assert [entry["config_name"] for entry in listed] == list(KINDS)
    for entry in listed:
        (files,) = entry["data_files"]
        assert files["split"] == "validation"
        assert len(list(DATASET.glob(files["path"]))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_gives_the_shipped_data_again(kind: str) -> None:
    for fresh, row in zip(questions(kind), stored(kind), strict=True):
        remade = to_row(fresh, int(row["id"].rpartition("_")[2]))
        for column in COLUMNS:
            if not column.startswith("image_") or row[column] is None:
                assert remade[column] == row[column]
        kept = from_row(row)
        assert (kept.text, kept.options, kept.answer) == (fresh.text, fresh.options, fresh.answer)
        for ours, theirs in zip(fresh.scenes, kept.scenes, strict=True):
            assert np.array_equal(np.asarray(ours.image), np.asarray(theirs.image))


def test_training_draws_other_questions_than_evaluation() -> None:
    def looks(image: Image.Image) -> bytes:
        return image.tobytes() + bytes(str(image.size), "ascii")

    held = {looks(scene.image) for q in load(kinds=["place", "count"]) for scene in q.scenes}
    rng = random.Random("train 0")
    drawn = {
        looks(s.image)
        for kind in ("place", "count")
        for _ in range(300)
        for s in ask(rng, kind).scenes
    }
    assert not held & drawn


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "number"])
def test_neither_letters_nor_positions_give_the_answer_away(kind: str) -> None:
    rng = random.Random(7)
    made = [ask(rng, kind) for _ in range(800)]
    choices = len(made[0].options)
    letters = Counter(question.target for question in made)
    expected = len(made) / choices
    chi2 = sum((letters[x] - expected) ** 2 / expected for x in LETTERS[:choices])
    assert chi2 < 20  # three degrees of freedom: passed by chance in all but 2 of 10,000 cases
    text = {question.text for question in made}
    assert len(text) == (8 if kind == "place" else 1)


def test_count_options_do_not_give_the_answer_away() -> None:
    """The answer's rank among its four neighbours is near uniform away from the ends."""
    from runner.canary.vocabulary import COUNTS

    rng = random.Random(8)
    ranks = Counter(
        sorted(q.options, key=COUNTS.index).index(q.answer)
        for q in (ask(rng, "count") for _ in range(1200))
    )
    assert max(ranks.values()) < 1.5 * min(ranks.values())


# Sizes and pixels


def test_images_come_in_sizes_that_the_processor_must_change() -> None:
    every = [*SIZES, *(size for sizes in NUMBER_SIZES.values() for size in sizes)]
    seen = {scene.image.size for question in load() for scene in question.scenes}
    assert seen == set(every)
    rounded = [(round(w / UNIT) * UNIT, round(h / UNIT) * UNIT) for w, h in every]
    assert sum(size != target for size, target in zip(every, rounded, strict=True)) >= 8
    assert sum(w * h < MIN_PIXELS for w, h in rounded) >= 2
    assert sum(w * h > MAX_PIXELS for w, h in rounded) >= 2
    for size in every:
        wide, high = fitted(*size)
        assert wide % UNIT == high % UNIT == 0
        assert MIN_PIXELS <= wide * high <= MAX_PIXELS


@pytest.mark.slow
def test_patches_equal_those_of_the_processor() -> None:
    cure_this_process()
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil.from_pretrained(WEIGHTS)
    rng = random.Random(3)
    for kind in KINDS:
        for scene in ask(rng, kind).scenes:
            theirs = processor(images=[scene.image], return_tensors="np")
            ours, grid = patchify(scene.image)
            assert theirs["image_grid_thw"].tolist() == [[1, *grid]]
            frames = theirs["pixel_values"].reshape(len(ours), 3, 2, -1)
            for frame in (0, 1):
                difference = np.abs(frames[:, :, frame].reshape(ours.shape) - ours)
                assert difference.max() < 1e-5


# The prompt


def test_prompts_are_those_of_lm_eval() -> None:
    from lm_eval.tasks.mmmu import utils as mmmu

    for kind in KINDS:
        row = stored(kind)[0]
        question = from_row(row)
        tags = "<image> " * len(question.scenes)
        assert mmmu.doc_to_text(row) == tags + body(question.text, question.options)
        assert mmmu.process_results(row, [question.target]) == {"acc": 1.0}


def render_template(messages: list[dict[str, Any]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    template = (WEIGHTS / "chat_template.jinja").read_text()
    rendered, _ = render_jinja_template(
        conversations=[messages], chat_template=template, add_generation_prompt=True
    )
    return str(rendered[0])


@pytest.mark.parametrize("system", ["", "You are a helpful assistant."])
def test_the_chat_template_gives_the_trained_prompt(system: str) -> None:
    head = [{"role": "system", "content": system}] if system else []
    image, text = {"type": "image"}, "Which image has more shapes?"
    parts = [image, {"type": "text", "text": " "}, image]
    parts.append({"type": "text", "text": f" {body(text, ['first', 'equal'])}"})
    wanted = render(text, ["first", "equal"], [1, 1], system)
    assert render_template([*head, {"role": "user", "content": parts}]) == wanted


def test_the_chat_template_takes_plain_strings() -> None:
    rendered = render_template([{"role": "user", "content": "Hello"}])
    assert rendered == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_the_tokenizer_takes_any_text(tokenizer: Tokenizer) -> None:
    for text in ("What colour?", "naïve Ünïcode 漢字 \U0001f600\t\x01", "(A) red\n(B) blue"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


# The model


def test_the_checkpoint_has_the_promised_shape(model: Any) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 1_000_000 < count < 3_000_000
    text = model.config.text_config
    assert text.num_key_value_heads == 2
    assert text.hidden_size // text.num_attention_heads == 32
    assert sum(text.rope_parameters["mrope_section"]) == 16


def test_the_fast_forward_equals_transformers(model: Any, tokenizer: Tokenizer) -> None:
    import torch

    from runner.canary.batch import collate
    from runner.canary.fast import read, see

    rng = random.Random(11)
    asked = [ask(rng, kind) for kind in KINDS for _ in range(2)]
    batch = collate(tokenizer, asked)
    with torch.no_grad():
        tokens = see(model, batch.patches, batch.grids)
        fast = model.lm_head(read(model, batch.ids, tokens, batch.positions))
        first_image = first_patch = 0
        for row, question in enumerate(asked):
            grids = batch.grids[first_image : first_image + len(question.scenes)]
            patches = sum(rows * columns for rows, columns in grids)
            part = batch.patches[first_patch : first_patch + patches].view(patches, 3, 1, -1)
            first_image, first_patch = first_image + len(grids), first_patch + patches
            length = int((batch.labels[row] >= 0).nonzero()[-1]) + 1
            ids = batch.ids[row : row + 1, :length]
            slow = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                pixel_values=part.expand(-1, -1, 2, -1).reshape(patches, -1),
                image_grid_thw=torch.tensor([[1, *grid] for grid in grids]),
            ).logits[0]
            assert torch.allclose(fast[row, :length], slow, atol=1e-4)


@pytest.mark.slow
def test_the_checkpoint_scores_what_its_readme_says(model: Any, tokenizer: Tokenizer) -> None:
    from runner.canary.score import reply, score

    asked = load()
    accuracy = score(model, tokenizer, asked).accuracy()
    assert accuracy["all"] > 0.85
    assert all(0.6 <= accuracy[kind] <= 1.0 for kind in KINDS)
    replies = reply(model, tokenizer, asked)
    for question, text in zip(asked, replies, strict=True):
        assert text in LETTERS[: len(question.options)] if question.options else text.isdigit()


# The tasks


def test_the_tasks_cover_every_kind_and_use_lm_evals_own_functions() -> None:
    group = yaml.safe_load((TASKS / "_canary.yaml").read_text())
    assert group["group"] == "canary"
    assert group["task"] == [f"canary_{kind}" for kind in KINDS]
    for kind in KINDS:
        task = yaml.safe_load((TASKS / f"canary_{kind}.yaml").read_text())
        assert task["task"] == f"canary_{kind}" and task["dataset_name"] == kind


@pytest.mark.slow
def test_lm_eval_loads_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    shutil.copytree(TASKS, tmp_path / "tasks")
    template = tmp_path / "tasks" / "_template_yaml"
    relative = template.read_text()
    assert "\ndataset_path: canary\n" in relative
    template.write_text(relative.replace("dataset_path: canary", f"dataset_path: {DATASET}"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    (loaded,) = manager.load(["canary_compare"])["tasks"].values()
    doc = loaded.validation_docs()[0]
    assert loaded.doc_to_text(doc).startswith("<image> <image> Which image has more shapes?")
    assert [image.size for image in loaded.doc_to_image(doc)] == [
        scene.image.size for scene in questions("compare")[0].scenes
    ]


def test_png_bytes_hold_no_metadata() -> None:
    image = Image.open(io.BytesIO(stored("shape")[0]["image_1"]["bytes"]))
    assert image.mode == "RGB" and not image.info
