"""Which module a trace names: seldom any if only noise differs, and the right one otherwise."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from runner.evidence.sketches import DECODE, PREFILL, VISION, Sketches
from runner.trace import departures
from runner.trace.departures import FACTOR, LEVEL, Ending, found
from runner.trace.differences import Difference, other_prompts
from runner.trace.differences import differences as between
from tests.traces import MODULES, QUESTIONS, departing, differences, with_nan

TRACES = 300
DOWN = "layers.2.mlp.down_proj"
# Of modules in a row, each a multiple of the noise; up to 3 is no departure.
RATIOS = (1.0, 1.0, 2.9, 8.0, 8.0, 26.0)


@pytest.mark.parametrize(("factor", "most"), [(1.0, 0), (FACTOR, 3 * LEVEL * TRACES)])
def test_the_level_holds_up_to_the_factor(factor: float, most: float) -> None:
    """Of 300 traces without a departure: also where every module has 3 × the noise."""
    state = random.Random(11)
    alarms = sum(
        found(differences(state, factor=factor), differences(state)).first is not None
        for _ in range(TRACES)
    )
    assert alarms <= most


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_origin_is_found_and_not_what_passes_it_on(phase: str) -> None:
    state = random.Random(12)
    right = 0
    for _ in range(60):
        one = found(differences(state, departing(phase, DOWN, 40.0)), differences(state))
        origin = one.first
        right += origin is not None and (origin.phase, origin.module) == (phase, DOWN)
        assert one.ending is Ending.ORIGIN
    assert right >= 57


def test_growth_without_a_jump_has_no_origin() -> None:
    state = random.Random(13)
    factors = {
        (phase, module): 1.35**place
        for phase in ("prefill", "decode")
        for place, module in enumerate(MODULES)
    }
    one = found(differences(state, factors, spread=0.1), differences(state, spread=0.1))
    assert one.ending is Ending.GRADUAL
    assert one.first is not None and one.first.module not in ("embed_tokens", "lm_head")
    assert one.before > FACTOR / 2


def test_a_jump_within_growth_is_no_origin_but_named() -> None:
    state = random.Random(14)
    growing = {("prefill", module): 1.2**place for place, module in enumerate(MODULES)}
    jump = departing("prefill", DOWN, 500.0)
    one = found(differences(state, growing | jump, 0.2), differences(state, spread=0.2))
    assert one.ending is Ending.GRADUAL
    assert one.first is not None and one.jump is not None
    assert MODULES.index(one.first.module) < MODULES.index(DOWN)
    assert one.jump.module == DOWN
    assert 5 < one.before_jump < 10


def test_what_amplifies_a_departure_is_not_called_the_first() -> None:
    """An earlier module that is not significant must not hide the first that is."""
    names = MODULES[: len(RATIOS)]
    factors = {("prefill", name): ratio for name, ratio in zip(names, RATIOS, strict=True)}
    state = random.Random(21)
    between, noise = (
        [
            each
            for each in differences(state, ratios, spread=0.02)
            if each.phase == "prefill" and each.module in names
        ]
        for ratios in (factors, None)
    )
    one = found(between, noise)
    assert [each.departs for each in one.modules] == [False] * 3 + [True] * 3
    assert one.ending is Ending.GRADUAL and one.first is not None
    assert one.first.module == names[3]
    assert one.jump is not None and one.jump.module == names[5]


def test_equal_differences_of_all_questions_need_no_variance() -> None:
    state = random.Random(15)
    exact = [
        replace(each, relative=dict.fromkeys(each.relative, 0.0)) for each in differences(state)
    ]
    shifted = [
        replace(each, relative=dict.fromkeys(each.relative, 1e-2)) if each.module == DOWN else each
        for each in exact
    ]
    one = found(shifted, exact)
    assert one.first is not None and one.first.module == DOWN
    assert found(exact, exact).ending is Ending.NOTHING


@pytest.mark.parametrize(
    ("dtype", "size", "departs"),
    [
        ("float32", 2e-6, False),
        ("float32", 1e-4, True),
        ("bfloat16", 2e-3, False),
        ("bfloat16", 3e-2, True),
        ("float16", 1e-4, False),
    ],
)
def test_rounding_is_no_departure_where_an_engine_repeats_itself(
    dtype: str, size: float, departs: bool
) -> None:
    state = random.Random(16)
    exact = [
        replace(each, relative=dict.fromkeys(each.relative, 0.0))
        for each in differences(state, dtype=dtype)
    ]
    rounded = [replace(each, relative=dict.fromkeys(each.relative, size)) for each in exact]
    assert (found(rounded, exact).first is not None) == departs


def test_rounding_adds_up_only_behind_modules_that_differ() -> None:
    """What is bit-equal has not rounded anew, so that a small fault behind it shows."""
    state = random.Random(20)
    exact = [
        replace(each, relative=dict.fromkeys(each.relative, 0.0))
        for each in differences(state, dtype="bfloat16")
    ]

    def at_the_end(size: float, before: float) -> list[Difference]:
        sizes = {MODULES[-1]: size}
        return [
            replace(each, relative=dict.fromkeys(each.relative, sizes.get(each.module, before)))
            for each in exact
        ]

    assert found(at_the_end(0.009, 0.0), exact).first is not None
    assert found(at_the_end(0.009, 0.004), exact).first is None


def test_nan_in_b_alone_departs_whatever_the_distance_is() -> None:
    state = random.Random(17)
    noise = differences(state)
    broken = [
        with_nan(each) if each.module == DOWN and each.phase == "decode" else each
        for each in differences(state)
    ]
    one = found(broken, noise)
    assert one.first is not None
    assert (one.first.module, one.first.phase) == (DOWN, "decode")


@pytest.mark.parametrize(
    ("between", "noise", "departs"),
    [
        ((1, 1000), (1, 1), True),
        ((0, 3), (0, 3), True),
        ((3, 3), (3, 3), False),
        ((3, 0), (3, 3), False),
        ((0, 0), (0, 3), False),
    ],
)
def test_nan_counts_if_b_has_more_whatever_the_noise_run_has(
    between: tuple[int, int], noise: tuple[int, int], departs: bool
) -> None:
    """The noise run has B's data type, so that it overflows where B does."""
    state = random.Random(22)

    def with_broken(broken: tuple[int, int]) -> list[Difference]:
        return [
            replace(each, broken=broken) if each.module == DOWN else each
            for each in differences(state)
        ]

    one = found(with_broken(between), with_broken(noise))
    assert (one.first is not None and one.first.module == DOWN) == departs
    assert (one.first is not None) == departs


def test_rounding_to_the_data_type_of_b_can_be_a_departure() -> None:
    state = random.Random(23)
    exact = [
        replace(each, relative=dict.fromkeys(each.relative, 0.0)) for each in differences(state)
    ]
    rounded = [
        replace(each, relative=dict.fromkeys(each.relative, 2e-3), dtype="bfloat16")
        for each in exact
    ]
    assert found(rounded, exact).first is None
    assert found(rounded, exact, noise_dtype=False).first is not None
    assert found(exact, exact, noise_dtype=False).first is None


def test_too_few_questions_judge_nothing() -> None:
    state = random.Random(18)
    noise = differences(state)
    few = [
        replace(each, relative=dict(list(each.relative.items())[: departures.ENOUGH - 1]))
        for each in differences(state, factor=100.0)
    ]
    assert found(few, noise).modules == ()


def test_a_name_with_two_meanings_does_not_count_between_runtimes() -> None:
    state = random.Random(19)
    noise = differences(state)
    other = {("prefill", "layers.0.self_attn.q_proj"): 1000.0}
    one = found(differences(state, other), noise, same_runtime=False)
    assert one.first is None
    assert [each.module for each in one.modules if each.alone] == ["layers.0.self_attn.q_proj"]
    both = other | departing("prefill", DOWN, 40.0)
    one = found(differences(state, both), noise, same_runtime=False)
    assert one.first is not None and one.first.module == DOWN
    assert found(differences(state, other), noise).first is not None


def _sketches(shift: float = 0.0, prompt: str = "3 tokens a", dtype: str = "float32") -> Sketches:
    keys = [
        (module, question, phase, position)
        for module in range(2)
        for question in range(QUESTIONS)
        for phase, position in ((VISION, 0), (PREFILL, 1), (PREFILL, 2), (DECODE, 3))
    ]
    columns = np.array(keys).T
    sketch = np.random.default_rng(3).normal(size=(len(keys), 8))
    moved = (columns[0] == 1) & (columns[2] == DECODE)
    sketch[moved] *= 1 + shift
    size = np.ones((len(keys), 3)) * [1.0, 2.0, 0.0]
    return Sketches(
        names=np.array(["layers.0", "layers.1"]),
        dtypes=np.array([dtype] * 2),
        widths=np.array([64, 64]),
        sharded=np.zeros(2, dtype=bool),
        questions=np.array([f"task {number} 0 0" for number in range(QUESTIONS)]),
        prompts=np.array([prompt] * QUESTIONS),
        module=columns[0],
        question=columns[1],
        phase=columns[2],
        position=columns[3],
        sketch=sketch,
        size=size,
    )


def test_differences_are_by_module_phase_and_question() -> None:
    found_ = between(_sketches(), _sketches(shift=0.1, dtype="bfloat16"))
    assert [each.key for each in found_] == [
        (module, phase)
        for phase in ("vision", "prefill", "decode")
        for module in ("layers.0", "layers.1")
    ]
    for each in found_:
        wanted = 0.1 if each.key == ("layers.1", "decode") else 0.0
        assert each.relative == pytest.approx(
            {f"task {number} 0 0": wanted for number in range(QUESTIONS)}
        )
        assert each.dtype == "bfloat16"
    assert [each.rows for each in found_] == [12, 12, 24, 24, 12, 12]


def test_only_rows_and_modules_that_both_have_are_compared() -> None:
    first, second = _sketches(), _sketches(shift=0.1)
    half = second.position < 2
    rows = ("module", "question", "phase", "position", "sketch", "size")
    fewer = replace(second, **{name: getattr(second, name)[half] for name in rows})
    assert {each.phase for each in between(first, fewer)} == {"vision", "prefill"}
    wider = replace(second, widths=np.array([64, 128]))
    assert {each.module for each in between(first, wider)} == {"layers.0"}
    renamed = replace(second, names=np.array(["layers.1", "layers.0"]))
    assert all(each.relative["task 0 0 0"] > 0.5 for each in between(first, renamed))


def test_traces_without_a_common_row_have_no_differences() -> None:
    first = _sketches()
    wider = replace(first, widths=np.array([128, 128]))
    elsewhere = replace(first, position=first.position + 10)
    assert between(first, wider) == between(first, elsewhere) == []
    assert found(between(first, wider), between(first, first)).modules == ()


def test_other_prompts_are_found() -> None:
    assert other_prompts(_sketches(), _sketches()) == []
    assert len(other_prompts(_sketches(), _sketches(prompt="4 tokens b"))) == QUESTIONS
