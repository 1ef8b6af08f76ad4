"""The mixture-of-experts canary: its data, its checkpoint, its routing and its faults."""

from __future__ import annotations

import copy
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from benchmarks.canary_faults import END, PAGE  # noqa: E402
from benchmarks.canary_moe_faults import BEGIN, stacks  # noqa: E402
from benchmarks.detection_rules import Judged, Reference  # noqa: E402
from benchmarks.healthy_stacks import HEALTHY as HEALTHY_STACK  # noqa: E402
from benchmarks.healthy_stacks import RANKS, healthy_stacks, noise_runs  # noqa: E402
from runner.canary import TASKS  # noqa: E402
from runner.canary.damaged import main  # noqa: E402
from runner.canary.data import FILE  # noqa: E402
from runner.canary.fault import Fault  # noqa: E402
from runner.canary.faults import arithmetic, file_faults  # noqa: E402
from runner.canary.moe import DATASET, WEIGHTS  # noqa: E402
from runner.canary.moe.damage import Bench  # noqa: E402
from runner.canary.moe.data import ROWS, load, questions  # noqa: E402
from runner.canary.moe.faults import moe_faults  # noqa: E402
from runner.canary.moe.model import EXPERTS, LAYERS  # noqa: E402
from runner.canary.moe.questions import KINDS, ask  # noqa: E402
from runner.canary.moe.score import collate, force, open_weights, render, reply  # noqa: E402
from runner.status import Status  # noqa: E402

FAULTS = {fault.key: fault for fault in moe_faults()}
HEALTHY = load_file(WEIGHTS / "model.safetensors")
ROUTERS = [f"model.layers.{i}.mlp.gate.weight" for i in range(LAYERS)]


def experts(*parts: str, layers: Any = range(LAYERS), which: Any = range(EXPERTS)) -> set[str]:
    """Names of the experts' weights."""
    return {
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
        for layer in layers
        for expert in which
        for part in parts
    }


ALL_PARTS = ("gate", "up", "down")
# The tensors, or the key of config.json, that each fault changes.
TENSORS: dict[str, set[str]] = {
    **{f"int{bits}-experts-per-row": experts(*ALL_PARTS) for bits in (8, 6, 4, 3)},
    "experts-0-and-1-of-layer-1-swapped": experts(*ALL_PARTS, layers=[1], which=[0, 1]),
    "router-rows-of-layer-1-shifted-by-one": {ROUTERS[1]},
    "router-rows-of-all-layers-shifted-by-one": set(ROUTERS),
    "expert-0-of-layer-1-zeroed": experts("down", layers=[1], which=[0]),
    "experts-of-rank-1-of-2-zeroed": experts("down", which=range(4, 8)),
    "gate-and-up-projections-of-experts-swapped": experts("gate", "up"),
}
CONFIG: dict[str, tuple[str, Any]] = {
    "one-expert-per-token-instead-of-two": ("num_experts_per_tok", 1),
    "four-experts-per-token-instead-of-two": ("num_experts_per_tok", 4),
    "router-weights-not-renormalised": ("norm_topk_prob", False),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def opened() -> Any:
    return open_weights()


# The files


def test_shipped_files_are_small_and_complete() -> None:
    assert {path.name for path in WEIGHTS.iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 1 << 20
    assert {tensor.dtype for tensor in HEALTHY.values()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_gives_the_shipped_data_again(kind: str) -> None:
    assert questions(kind) == [each for each in load() if each.kind == kind]


def test_the_readme_and_the_tasks_list_every_kind() -> None:
    header = (DATASET / "README.md").read_text().split("---\n")[1]
    listed = yaml.safe_load(header)["configs"]
    assert [entry["config_name"] for entry in listed] == list(KINDS)
    group = yaml.safe_load((TASKS / "_canary_moe.yaml").read_text())
    assert group["group"] == "canary_moe"
    assert group["task"] == [f"canary_moe_{kind}" for kind in KINDS]
    for kind in KINDS:
        task = yaml.safe_load((TASKS / f"canary_moe_{kind}.yaml").read_text())
        assert task["task"] == f"canary_moe_{kind}" and task["dataset_name"] == kind
        assert (DATASET / kind / FILE).is_file()


def test_the_chat_template_gives_the_trained_prompt() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    question = load()[0]
    rendered, _ = render_jinja_template(
        conversations=[[{"role": "user", "content": question.text}]],
        chat_template=(WEIGHTS / "chat_template.jinja").read_text(),
        add_generation_prompt=True,
    )
    assert rendered == [render(question)]


# The questions


def test_answers_are_right() -> None:
    rng = random.Random(3)
    for kind in KINDS:
        for _ in range(50):
            each = ask(rng, kind)
            words = each.text.rstrip(".?").split()
            if kind == "copy":
                assert each.answer == words[1]
            elif kind == "reverse":
                assert each.answer == "".join(reversed(words[1]))
            elif kind == "sort":
                assert each.answer == "".join(sorted(words[1]))
            elif kind == "sum":
                assert int(each.answer) == int(words[1]) + int(words[3])
            elif kind == "recall":
                assert f"{words[-1]} {each.answer}" in each.text.partition(".")[0]
            else:
                told = each.text.partition(".")[0].split()
                counts = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
                assert each.answer == counts[told.count(words[-1]) - 1]


def test_training_draws_other_questions_than_evaluation() -> None:
    """Except sums, of which there are only 8,100, and two pairs to recall (3,840)."""
    held = {each.text for each in load() if each.kind != "sum" and each.text.count(",") != 1}
    rng = random.Random("train 0")
    drawn = {ask(rng, kind).text for kind in KINDS for _ in range(500)}
    assert not held & drawn


def test_labels_are_the_next_tokens_of_the_answer(opened: Any) -> None:
    _, tokenizer = opened
    asked = load()[::100]
    ids, labels = collate(tokenizer, asked)
    for row, question in enumerate(asked):
        places = (labels[row] >= 0).nonzero()[:, 0]
        assert torch.equal(ids[row, places + 1], labels[row, places])
        told = tokenizer.decode(labels[row, places].tolist(), skip_special_tokens=False)
        assert told == f"{question.answer}<|im_end|>"


# The model


@pytest.fixture(scope="module")
def routes(opened: Any) -> list[tuple[Any, Any]]:
    """By layer, the router's probabilities and the experts of each answer token."""
    model, tokenizer = opened
    ids, labels = collate(tokenizer, load()[::6])
    with torch.no_grad():
        logits = model.model(input_ids=ids, output_router_logits=True).router_logits
    kept = (labels >= 0).flatten()
    return [(each[kept].softmax(-1), each[kept].topk(2).indices) for each in logits]


def test_every_expert_is_used(routes: list[tuple[Any, Any]]) -> None:
    for _, chosen in routes:
        share = torch.bincount(chosen.flatten(), minlength=EXPERTS) / len(chosen)
        assert share.min() > 0.02


def test_the_router_prefers_some_experts(routes: list[tuple[Any, Any]]) -> None:
    """With equal probabilities, the entropy would be log 8 = 2.08, and any two experts would do."""
    for probabilities, _ in routes:
        entropy = torch.special.entr(probabilities).sum(-1).mean()
        assert entropy < 1.7


def test_forced_answers_are_those_of_generation(opened: Any) -> None:
    asked = load()[::40]
    replies = reply(*opened, asked)
    assert force(*opened, asked, replies).scored().right.all()


def test_the_checkpoint_scores_what_its_model_file_says(opened: Any) -> None:
    asked = load()
    accuracy = force(*opened, asked, [each.answer for each in asked]).scored().accuracy()
    conf = Path(__file__).parents[2] / "conf" / "model" / "canary_moe.yaml"
    stated = yaml.safe_load(conf.read_text())["baselines"]["canary_moe"]["exact_match"]["none"]
    assert accuracy["all"] == pytest.approx(stated, abs=2 / len(asked))
    assert len(asked) == ROWS * len(KINDS)


# The faults


def test_keys_are_unique_and_not_those_of_the_other_model() -> None:
    assert len(FAULTS) == len(moe_faults())
    assert FAULTS.keys() == TENSORS.keys() | CONFIG.keys()
    assert not FAULTS.keys() & file_faults().keys()


@pytest.mark.parametrize("key", FAULTS)
def test_a_damaged_copy_differs_in_nothing_else(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy"
    monkeypatch.setattr(sys, "argv", ["damaged", key, str(out)])
    main()
    tensors = load_file(out / "model.safetensors")
    assert tensors.keys() == HEALTHY.keys()
    different = {name for name in tensors if not torch.equal(tensors[name], HEALTHY[name])}
    assert different == TENSORS.get(key, set())
    config = json.loads((WEIGHTS / "config.json").read_text())
    if key in CONFIG:
        name, value = CONFIG[key]
        assert config[name] != value
        config[name] = value
    assert json.loads((out / "config.json").read_text()) == config
    touched = {"model.safetensors"} if key in TENSORS else {"config.json"}
    assert {path.name for path in out.iterdir()} == {path.name for path in WEIGHTS.iterdir()}
    for path in WEIGHTS.iterdir():
        same = (out / path.name).read_bytes() == path.read_bytes()
        assert same == (path.name not in touched), path.name


def test_the_router_is_shifted_by_one_expert() -> None:
    from runner.canary.checkpoint import Checkpoint

    checkpoint = Checkpoint.read(WEIGHTS)
    edit = FAULTS["router-rows-of-layer-1-shifted-by-one"].edit
    assert edit is not None
    edit(checkpoint)
    assert torch.equal(checkpoint.tensors[ROUTERS[1]][1:], HEALTHY[ROUTERS[1]][:-1])


def test_wrong_routing_costs_accuracy(opened: Any, tmp_path: Path) -> None:
    from runner.canary.damaged import write_damaged

    asked = load()[::5]
    right = [each.answer for each in asked]
    write_damaged(FAULTS["router-rows-of-all-layers-shifted-by-one"], tmp_path / "copy", WEIGHTS)
    before, after = (
        force(*stack, asked, right).scored().accuracy()["all"]
        for stack in (opened, open_weights(tmp_path / "copy"))
    )
    assert before > 0.8 and after < before - 0.3


def changed_guesses(opened: Any, fault: Fault) -> Any:
    """Log-probabilities of some answer tokens after a change to the model."""
    model, tokenizer = copy.deepcopy(opened[0]), opened[1]
    if fault.change:
        fault.change(model)
    asked = load()[::20]
    return force(model, tokenizer, asked, [each.answer for each in asked]).guesses


def test_ranks_add_up_to_the_whole_experts(opened: Any) -> None:
    whole, *split = noise_runs(Fault("float32", "", change=lambda model: None))
    expected = changed_guesses(opened, whole)
    for run in split:
        assert torch.allclose(changed_guesses(opened, run), expected, atol=1e-3)


def test_each_rank_has_its_part_of_every_expert(opened: Any) -> None:
    for ranks, run in zip(RANKS, noise_runs(Fault("", "", change=lambda model: None)), strict=True):
        model = copy.deepcopy(opened[0])
        assert run.change is not None
        run.change(model)
        parts = [each for name, each in model.named_parameters() if "down_proj" in name]
        assert len(parts) == ranks * LAYERS
        assert {tuple(each.shape) for each in parts} == {(EXPERTS, 64, 64 // ranks)}


def test_healthy_stacks_round_differently(opened: Any) -> None:
    found = [changed_guesses(opened, each) for each in healthy_stacks()]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(found, 2))


def test_the_page_has_every_fault() -> None:
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    sections = text.split("\n### ")[1:]
    names = [fault.name for fault in (*arithmetic(), *moe_faults())]
    for section in sections:
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
        listed = [name for name, *_ in rows[2:]]
        if section.startswith("Detection"):
            assert listed == [f"healthy: {HEALTHY_STACK}", *names[2:]]
        else:
            assert listed == names
        if section.startswith("Faults"):
            reasons = {name: rest for name, *rest in rows}
            for fault in FAULTS.values():
                assert reasons[fault.name] == [fault.reality, f"`{fault.key}`"]
    assert len(sections) == 4


@pytest.mark.slow
def test_replay_judges_all_questions_as_the_page_says() -> None:
    """The healthy stack and experts with 8 and 6 bits, which are nearest to the limit."""
    first, *others = itertools.islice(stacks(Bench()), 1 + len(RANKS) + 3)
    reference = Reference(first, others[: len(RANKS)])
    asked = range(len(first.answers))
    found = [Judged(reference, each).status("replay", asked) for each in others[len(RANKS) :]]
    assert found == [Status.PASSED, Status.PASSED, Status.FAILED]
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2]
    for stack, word in zip(others[len(RANKS) :], ("passes", "passes", "600"), strict=True):
        row = next(line for line in text.splitlines() if f"{stack.name} | passes" in line)
        assert row.endswith(f"| {word} |")
