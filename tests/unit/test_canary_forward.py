"""The canary's faults in transformers' own forward pass, and in prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from runner.canary import WEIGHTS
from runner.canary.data import questions
from runner.canary.prompt import SYSTEM, render
from runner.canary.vocabulary import COLOURS

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from runner.canary.batch import collate  # noqa: E402
from runner.canary.fast import see  # noqa: E402
from runner.canary.faults import all_faults, file_faults  # noqa: E402
from runner.canary.loaded import Loaded  # noqa: E402

TEXT = range(4)
IMAGE = 6  # the token of an image
PROMPTS = re.compile("question-cut|generation-prompt|at-the-start|system-message")
# Faults of the vision encoder and of its pixels.
FROM_IMAGE = re.compile("vision|mean-and-std|bgr")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def healthy() -> Loaded:
    return Loaded.open(WEIGHTS)


def logits(stack: Loaded) -> tuple[list[int], Tensor]:
    """Prompt and transformers' logits at each of its positions, (length, vocabulary)."""
    (question,) = questions("place", 1)  # an image of several colours
    batch = stack.batch([question], [question.target])
    patches = batch.patches.view(len(batch.patches), 3, 1, -1).expand(-1, -1, 2, -1)
    with torch.no_grad():
        result: Tensor = stack.model(
            input_ids=batch.ids,
            attention_mask=torch.ones_like(batch.ids),
            mm_token_type_ids=(batch.ids == IMAGE).int(),
            pixel_values=patches.reshape(len(batch.patches), -1),
            image_grid_thw=torch.tensor([[1, *grid] for grid in batch.grids]),
            use_cache=False,
        ).logits[0]
    return batch.ids[0].tolist(), result


# The forward pass


def first_difference(stack: Loaded, healthy: Loaded) -> tuple[int, list[int]]:
    """The first position whose logits differ by more than rounding, and the prompt."""
    ids, before = logits(healthy)
    same, after = logits(stack)
    assert same == ids
    different = (after - before).abs().amax(-1) > 1e-5
    return int(different.nonzero()[0]), ids


@pytest.mark.parametrize("key", sorted(key for key in file_faults() if not PROMPTS.search(key)))
def test_the_forward_pass_changes_where_it_should(
    key: str, damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    """Attention is causal: a vision fault shows from the first image token, RoPE from the second
    token, because rotation by position 0 does nothing, and all others from the first."""
    at, ids = first_difference(Loaded.open(damaged(key)), healthy)
    if FROM_IMAGE.search(key):
        assert at == ids.index(IMAGE)
    else:
        assert at == (1 if key.startswith("rope") else 0)


def test_a_skipped_layer_is_the_identity(damaged: Callable[[str], Path], healthy: Loaded) -> None:
    stack = Loaded.open(WEIGHTS)
    layers = stack.model.model.language_model.layers
    del layers[2]
    stack.model.model.language_model.config.num_hidden_layers = 3
    assert torch.allclose(
        logits(Loaded.open(damaged("text-layer-2-skipped")))[1], logits(stack)[1], atol=1e-5
    )


def with_inputs(modules: dict[str, Callable[[Tensor], Tensor]]) -> Tensor:
    """Logits of the canary with the inputs of some of its layers changed on the way."""
    stack = Loaded.open(WEIGHTS)
    named = dict(stack.model.model.language_model.named_modules())
    for name, function in modules.items():
        named[name].register_forward_pre_hook(lambda _, given, f=function: (f(given[0]),))
    return logits(stack)[1]


def test_a_zeroed_head_contributes_nothing(damaged: Callable[[str], Path]) -> None:
    def no_head(states: Tensor) -> Tensor:
        heads = states.unflatten(-1, (4, 32)).clone()
        heads[..., 0, :] = 0
        return heads.flatten(-2)

    stack = Loaded.open(damaged("attention-head-0-of-layer-1-zeroed"))
    wanted = with_inputs({"layers.1.self_attn.o_proj": no_head})
    assert torch.allclose(logits(stack)[1], wanted, atol=1e-5)


def test_a_missing_rank_leaves_the_first_half_of_each_sum(damaged: Callable[[str], Path]) -> None:
    def first_rank(states: Tensor) -> Tensor:
        half = states.shape[-1] // 2
        return torch.cat((states[..., :half], torch.zeros_like(states[..., half:])), -1)

    stack = Loaded.open(damaged("partial-sum-of-rank-1-of-2-missing"))
    layers = [f"layers.{i}.{name}" for i in TEXT for name in ("self_attn.o_proj", "mlp.down_proj")]
    wanted = with_inputs(dict.fromkeys(layers, first_rank))
    assert torch.allclose(logits(stack)[1], wanted, atol=1e-5)


def test_swapped_projections_gate_with_the_other_half(damaged: Callable[[str], Path]) -> None:
    healthy, stack = Loaded.open(WEIGHTS), Loaded.open(damaged("gate-and-up-projections-swapped"))
    states = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    right, wrong = (s.model.model.language_model.layers[1].mlp for s in (healthy, stack))
    with torch.no_grad():
        gate, up = right.gate_proj(states), right.up_proj(states)
        wanted = right.down_proj(nn.functional.silu(up) * gate)
        assert torch.allclose(wrong(states), wanted, atol=1e-6)


def test_the_scaled_head_scales_every_logit(
    damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    after = logits(Loaded.open(damaged("lm-head-times-0.9")))[1]
    assert torch.allclose(after, 0.9 * logits(healthy)[1], atol=1e-4)


def test_a_swapped_row_changes_the_logits_of_two_tokens(
    damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    """The embedding is tied, so the two tokens exchange their logits; others stay before them."""
    before, after = (
        logits(healthy)[1][0],
        logits(Loaded.open(damaged("two-embedding-rows-swapped")))[1][0],
    )
    encode = healthy.processor.tokenizer.encode
    red, blue = (encode(f" {word}")[0] for word in ("red", "blue"))
    assert {"red", "blue"} <= COLOURS.keys()
    before[[red, blue]] = before[[blue, red]]
    assert torch.allclose(after, before, atol=1e-5)


def test_a_shifted_shard_leaves_the_first_rank_alone(
    damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    before, after = (
        logits(healthy)[1][0],
        logits(Loaded.open(damaged("embedding-shard-of-rank-1-shifted-by-one-row")))[1][0],
    )
    assert torch.allclose(after[:288], before[:288], atol=1e-5)
    assert torch.allclose(after[289:], before[288:-1], atol=1e-5)


def test_bgr_equals_an_image_with_reversed_channels(
    damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    (question,) = questions("place", 1)
    (scene,) = question.scenes
    red, green, blue = scene.image.split()
    reverse = replace(scene, image=Image.merge("RGB", (blue, green, red)))
    stack = Loaded.open(damaged("bgr-instead-of-rgb"))
    faulty = stack.batch([question], ["A"])
    wanted = healthy.batch([replace(question, scenes=(reverse,))], ["A"])
    with torch.no_grad():
        seen = see(stack.model, faulty.patches, faulty.grids)
        assert torch.allclose(seen, see(healthy.model, wanted.patches, wanted.grids), atol=1e-4)


def test_halved_vision_frequencies_show_from_the_image(healthy: Loaded) -> None:
    (change,) = (f.change for f in all_faults() if f.key == "vision-rope-frequencies-halved")
    assert change is not None
    stack = Loaded.open(WEIGHTS)
    with torch.no_grad():
        change(stack.model)
    at, ids = first_difference(stack, healthy)
    assert at == ids.index(IMAGE)


# Prompts


def prompt(stack: Loaded, kind: str = "compare", system: str = "") -> str:
    """The text of the prompt, decoded from its tokens."""
    (question,) = questions(kind, 1)
    batch = stack.batch([question], [""], system)
    ids = batch.ids[0].tolist()[:-1]
    return str(stack.processor.tokenizer.decode(ids))


def undamaged(healthy: Loaded, system: str = "") -> str:
    (question,) = questions("compare", 1)
    counts = [rows * columns // 4 for rows, columns in healthy.batch([question], ["A"]).grids]
    return render(question.text, question.options, counts, system)


@pytest.mark.parametrize("system", ["", SYSTEM])
def test_the_processor_gives_the_trained_prompt(system: str, healthy: Loaded) -> None:
    assert prompt(healthy, system=system) == undamaged(healthy, system)


def test_batches_of_the_processor_equal_those_of_training(healthy: Loaded) -> None:
    asked = [*questions("number", 3), *questions("compare", 3)]
    answers = [question.target for question in asked]
    theirs = healthy.batch(asked, answers)
    ours = collate(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")), asked)
    assert theirs.grids == ours.grids
    for name in ("ids", "labels", "positions"):
        assert torch.equal(getattr(theirs, name), getattr(ours, name))
    assert torch.allclose(theirs.patches, ours.patches, atol=1e-5)


def test_prompts_lose_what_the_template_drops(
    damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    right, systematic = undamaged(healthy), undamaged(healthy, SYSTEM)
    tail = "<|im_start|>assistant\n"
    assert prompt(Loaded.open(damaged("no-generation-prompt"))) == right.removesuffix(tail)
    assert prompt(Loaded.open(damaged("extra-token-at-the-start"))) == f"<|endoftext|>{right}"
    dropped = Loaded.open(damaged("system-message-dropped"))
    assert prompt(dropped, system=SYSTEM) == prompt(dropped) == right != systematic


def test_a_truncated_question_keeps_its_end(
    damaged: Callable[[str], Path], healthy: Loaded
) -> None:
    right = undamaged(healthy)
    images, _, text = right.rpartition("<|vision_end|>")
    text, end, tail = text.partition("<|im_end|>")
    assert len(text) > 100
    cut = Loaded.open(damaged("question-cut-to-its-last-100-characters"))
    assert prompt(cut) == f"{images}<|vision_end|>{text[-100:]}{end}{tail}"
