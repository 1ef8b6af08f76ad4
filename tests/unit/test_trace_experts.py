"""Experts: their tokens are counted, and one that alone departs is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runner.evidence.choices import read_choices
from runner.evidence.sketches import PREFILL
from runner.plan import TracePlan
from runner.runtimes.sketching.recorder import Recorder, Rows
from runner.runtimes.vllm.routing import routers
from runner.trace import findings, page
from runner.trace.departures import found
from runner.trace.differences import differences
from runner.trace.experts import Evidence, Experts, blamed, routings
from tests.traces import result

QUESTIONS, TOKENS, NUMBER, WIDTH = 8, 12, 6, 16
BEFORE, BLOCK = "layers.0.input_layernorm", "layers.0.mlp"


def _choices(seed: int = 3) -> torch.Tensor:
    """Two of six experts for each token, [questions, tokens, 2]."""
    drawn = torch.rand(QUESTIONS, TOKENS, NUMBER, generator=torch.Generator().manual_seed(seed))
    return drawn.topk(2).indices


def _evidence(
    directory: Path,
    damaged: Sequence[int] = (),
    chosen: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    before: bool = False,
) -> Evidence:
    """A block's traced outputs; those of tokens with a damaged expert are wrong by some 10 %.

    With `before`, so are those of the module before it.
    """
    chosen = _choices() if chosen is None else chosen
    generator = torch.Generator().manual_seed(5)
    recorder = Recorder(TracePlan())
    for question in range(QUESTIONS):
        number = recorder.question(f"task {question} 0 0", [1, 2])
        rows = recorder.tokens(number, TOKENS, 0, TOKENS, 0)
        values = torch.randn(TOKENS, WIDTH, generator=generator)
        noise = torch.randn(TOKENS, WIDTH, generator=generator)
        recorder.routes.record(BLOCK, chosen[question], rows, NUMBER)
        hit = torch.stack([(chosen[question] == each).any(dim=1) for each in damaged or [-1]])
        output = values + 0.1 * hit.any(dim=0)[:, None] * noise
        recorder.record(BEFORE, output if before else values, rows)
        recorder.record(BLOCK, output.to(dtype), rows)
    recorder.write(directory)
    return Evidence.read(directory)


def _blamed(a: Evidence, b: Evidence) -> Experts | None:
    judged = found(differences(a.sketches, b.sketches), differences(a.sketches, a.sketches))
    return blamed(a, b, a, judged)


def test_one_damaged_expert_is_named_and_nothing_else(tmp_path: Path) -> None:
    healthy = _evidence(tmp_path / "a")
    experts = _blamed(healthy, _evidence(tmp_path / "b", [2]))
    assert experts is not None and (experts.block, experts.alone) == (BLOCK, 2)
    (named,) = [each for each in experts.experts if each.number == 2]
    assert named.departs and named.ratio > 1000 and named.others == 1.0
    assert [each.others > 3 for each in experts.experts if each.others is not None].count(True) == 5


def test_two_damaged_experts_do_not_depart_alone(tmp_path: Path) -> None:
    experts = _blamed(_evidence(tmp_path / "a"), _evidence(tmp_path / "b", [2, 5]))
    assert experts is not None and experts.alone is None
    assert {2, 5} <= {each.number for each in experts.experts if each.departs}


@pytest.mark.parametrize("rare", [1, 2])
def test_a_second_damaged_expert_in_a_few_questions_is_not_overlooked(
    rare: int, tmp_path: Path
) -> None:
    """It has too few questions to be judged itself, and to move the mean over all."""
    drawn = torch.rand(QUESTIONS, TOKENS, NUMBER, generator=torch.Generator().manual_seed(3))
    drawn[rare:, :, 5] = -1
    chosen, dtype = drawn.topk(2).indices, torch.bfloat16
    healthy = _evidence(tmp_path / "a", (), chosen, dtype)
    experts = _blamed(healthy, _evidence(tmp_path / "b", [2, 5], chosen, dtype))
    assert experts is not None and experts.alone is None
    assert 5 not in [each.number for each in experts.experts]
    experts = _blamed(healthy, _evidence(tmp_path / "c", [2], chosen, dtype))
    assert experts is not None and experts.alone == 2


def test_no_expert_is_blamed_for_a_fault_before_its_block(tmp_path: Path) -> None:
    """The fault hits exactly the tokens of one expert, as one of decode hits `A` to `D`."""
    a, b = (_evidence(tmp_path / "a"), _evidence(tmp_path / "b", [2], before=True))
    judged = found(differences(a.sketches, b.sketches), differences(a.sketches, a.sketches))
    experts = blamed(a, b, a, judged)
    assert judged.first is not None and judged.first.module == BEFORE
    assert experts is not None and experts.block == BLOCK and experts.alone is None
    traced = replace(result(), found=judged, routings=routings(a, b, a), experts=experts)
    assert "xpert" not in " ".join(findings.findings(traced))
    assert 'id="experts"' in page.html(traced, "command")


def test_equal_blocks_have_no_experts_to_blame(tmp_path: Path) -> None:
    healthy = _evidence(tmp_path / "a")
    assert _blamed(healthy, _evidence(tmp_path / "b")) is None
    (routing,) = routings(healthy, healthy, healthy)
    assert routing.tokens == QUESTIONS * TOKENS and routing.changed == 0
    assert sum(routing.first) == 2 * QUESTIONS * TOKENS and routing.first == routing.second
    assert len(routing.first) == NUMBER


def test_tokens_with_other_experts_are_counted_and_not_compared(tmp_path: Path) -> None:
    """In a quarter of the tokens, B's router chooses another expert, so their outputs differ."""
    chosen = _choices()
    other = chosen.clone()
    other[:, ::4] = (chosen[:, ::4] + 1) % NUMBER
    a = _evidence(tmp_path / "a")
    b = _evidence(tmp_path / "b", [2], other)
    (routing,) = routings(a, b, a)
    same = torch.tensor(
        [
            set(one.tolist()) == set(two.tolist())
            for one, two in zip(chosen.reshape(-1, 2), other.reshape(-1, 2), strict=True)
        ]
    )
    assert routing.changed == pytest.approx(1 - same.float().mean().item())
    assert routing.second == tuple(torch.bincount(other.reshape(-1), minlength=NUMBER).tolist())
    assert routing.noise == 0
    experts = _blamed(a, b)
    assert experts is not None and experts.alone == 2
    assert max(each.tokens for each in experts.experts) <= int(same.sum())


def test_the_named_expert_is_in_every_output(tmp_path: Path) -> None:
    a, b = _evidence(tmp_path / "a"), _evidence(tmp_path / "b", [2])
    traced = replace(result(), routings=routings(a, b, a), experts=_blamed(a, b))
    said = f"Expert 2 of {BLOCK} departs alone"
    assert said in " ".join(findings.findings(traced))
    assert said in page.html(traced, "command") and "| 2 **alone** |" in page.markdown(traced, "c")
    assert "departs alone" not in " ".join(findings.findings(result()))
    assert 'id="experts"' not in page.html(result(), "command")


def test_choices_of_a_preempted_request_count_once_and_the_router_is_believed(
    tmp_path: Path,
) -> None:
    recorder = Recorder(TracePlan())
    question = recorder.question("task 0 0 0", [1])
    rows = Rows([0, 1], [(question, PREFILL, 0), (question, PREFILL, 1)])
    recorder.routes.record(BLOCK, torch.tensor([[4, 5], [4, 5]]), rows, NUMBER, told=False)
    recorder.routes.record(BLOCK, torch.tensor([[0, 1], [2, 3]]), rows, NUMBER)
    recorder.routes.record(BLOCK, torch.tensor([[2, 1]]), Rows([0], rows.keys[:1]), NUMBER)
    recorder.write(tmp_path, 1)
    (choices,) = read_choices(tmp_path).values()
    found_sets = dict(zip(choices.tokens, map(set, choices.chosen.tolist()), strict=True))
    assert found_sets == {("task 0 0 0", PREFILL, 0): {0, 1}, ("task 0 0 0", PREFILL, 1): {2, 3}}


class _Layer(torch.nn.Module):
    """A layer of experts as vLLM has it, without its experts."""

    def __init__(self, router: Any, **attributes: Any) -> None:
        super().__init__()
        self.router = router
        for name, value in attributes.items():
            setattr(self, name, value)


class _Router(SimpleNamespace):
    """A router that tells its choices to one listener."""

    capture_fn: Any = None

    def set_capture_fn(self, listener: Any) -> None:
        self.capture_fn = listener


def _model(layer: torch.nn.Module) -> torch.nn.Module:
    model = torch.nn.Module()
    model.mlp = torch.nn.Module()
    model.mlp.gate = torch.nn.Identity()
    model.mlp.experts = layer
    return model


def _heard(model: torch.nn.Module) -> list[tuple[bool, list[Any]]]:
    heard: list[tuple[bool, list[Any]]] = []
    for block, router in routers(model):
        assert block == "mlp"
        told = router.told
        router.listen(lambda chosen, told=told: heard.append((told, chosen.tolist())))
    return heard


def test_a_router_tells_its_choices_and_still_tells_whoever_listened_before() -> None:
    earlier: list[Any] = []
    router = _Router(global_num_experts=4, top_k=2, e_score_correction_bias=torch.ones(4))
    router.set_capture_fn(earlier.append)
    heard = _heard(_model(_Layer(router)))
    router.capture_fn(torch.tensor([[3, 1]]))
    assert heard == [(True, [[3, 1]])] and len(earlier) == 1


@pytest.mark.parametrize(
    ("of_router", "of_experts", "counted"),
    [
        ({}, {"use_grouped_topk": False, "num_expert_group": None}, True),
        ({"num_expert_group": 1}, {}, True),
        ({"num_expert_group": 4}, {}, False),
        ({}, {"use_grouped_topk": True}, False),
        ({"_hash_indices_table": torch.zeros(3)}, {}, False),
        ({"bias_vl": torch.zeros(3)}, {}, False),
        ({"zero_expert_type": "identity"}, {}, False),
    ],
)
def test_the_parts_of_a_layer_say_whether_logits_alone_count(
    of_router: dict[str, Any], of_experts: dict[str, Any], counted: bool
) -> None:
    """The layout of vLLM 0.32, where another platform's router may not tell its choices."""
    router = SimpleNamespace(top_k=2, **of_router)
    model = _model(_Layer(router, routed_experts=SimpleNamespace(**of_experts)))
    assert [router.told for _, router in routers(model)] == ([False] if counted else [])


@pytest.mark.parametrize(
    "other", [{}, {"use_grouped_topk": True}, {"e_score_correction_bias": torch.zeros(3)}]
)
def test_a_silent_router_chooses_its_largest_logits_if_nothing_else_counts(
    other: dict[str, Any],
) -> None:
    """As with vllm-ascend, whose kernels choose without the router."""
    model = _model(_Layer(None, top_k=2, **other))
    heard = _heard(model)
    model.get_submodule("mlp.gate")(torch.tensor([[0.1, 0.9, 0.5]]))
    assert heard == ([] if other else [(False, [[1, 2]])])
