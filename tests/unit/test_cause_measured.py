"""How the precision of the likely cause is measured, and the table in docs/canary.md."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.canary_faults import END  # noqa: E402
from benchmarks.cause import (  # noqa: E402
    BEGIN,
    CLASSES,
    GRID,
    NAMES,
    PAGE,
    Case,
    Named,
    fitted,
    held_out,
    mixtures,
    validated,
)
from benchmarks.cause_faults import DECODE, IMAGES, MODEL, ORDER, known_faults  # noqa: E402
from benchmarks.cause_stacks import questions  # noqa: E402
from runner.canary import WEIGHTS  # noqa: E402
from runner.canary.faults import all_faults  # noqa: E402
from runner.canary.loaded import Loaded  # noqa: E402
from runner.evidence.signature import Ratio, Signature  # noqa: E402
from runner.verdict.cause import PRECISION, measured  # noqa: E402


def _page() -> tuple[list[list[str]], list[list[str]], str]:
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    confusion, precision, limits = text.strip().split("\n\n")
    rows = [
        [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
        for table in (confusion, precision)
    ]
    return rows[0], rows[1], limits


def test_the_page_has_the_numbers_that_verdicts_use() -> None:
    limits, held = measured()
    _, rows, said = _page()
    assert rows == [
        [
            CLASSES[name],
            f"{100 * held[name].precision:.1f}",
            str(held[name].faults),
            "yes" if held[name].precision >= PRECISION else "no",
        ]
        for name in NAMES
    ]
    assert said == (
        f"Limits: quiet {limits.quiet:g}, contrast {limits.contrast:g}, scaled {limits.scaled:g}."
    )


def test_the_shares_of_each_row_of_the_page_add_up() -> None:
    confusion, _, _ = _page()
    assert {row[0] for row in confusion} == set(CLASSES.values())
    assert all(abs(sum(map(int, row[3:])) - 100) <= 3 for row in confusion)


def test_every_fault_of_the_atlas_has_a_class_and_every_class_several_families() -> None:
    known = known_faults()
    names = [each.fault.name for each in known]
    assert len(set(names)) == len(names)
    unclassed = {"stale KV block"}
    assert {fault.name for fault in all_faults()[2:]} - unclassed <= set(names)
    assert not unclassed.intersection(names)
    for label in {each.label for each in known}:
        assert len({each.family for each in known if each.label == label}) >= 3, label


def test_a_family_does_not_help_to_judge_itself() -> None:
    one, other = np.zeros(len(GRID)), np.zeros(len(GRID))
    one[3], other[7] = 2.0, 1.0
    gains = {"one": one, "other": other}
    assert fitted(gains) == GRID[3]
    assert fitted(gains, without="one") == GRID[7]
    assert fitted({"flat": np.zeros(len(GRID))}) == GRID[0]


def _case(label: str, family: str, text: float) -> Case:
    """Only text is quiet or not; the limits decide what that is called."""
    found = Signature(Ratio(20, text, text), None, None, Ratio(20, 900.0, 900.0), None, None, 0.0)
    return Case(f"{label} {family} {text}", label, family, "both", [found])


def test_limits_that_name_held_out_faults_wrongly_lose_precision() -> None:
    cases = [_case(IMAGES, "a", 1.0), _case(IMAGES, "b", 1.2), _case(MODEL, "c", 1.1)]
    _, named = validated(cases)
    # Without "c", nothing tells the fitted limits that it looks like an image.
    assert named[2].shares[IMAGES] == 1


def test_faults_have_equal_weight_and_the_worst_mixture_counts() -> None:
    def named(label: str, mixture: str, share: float) -> Named:
        case = Case(f"{label} {share}", label, "f", mixture, [])
        return Named(case, {name: share if name == IMAGES else 0.0 for name in NAMES})

    both = [named(IMAGES, "both", 1.0), named(ORDER, "both", 0.5), named(DECODE, "both", 0.5)]
    assert held_out(both, IMAGES).precision == 0.75
    assert held_out([*both, named(MODEL, "text", 0.1)], IMAGES).precision == 0
    assert held_out([*both, named(MODEL, "text", 0.1)], IMAGES).faults == 4


def test_mixtures_have_questions_with_and_without_images() -> None:
    assert mixtures([0, 1, 2, 0]) == {"both": [0, 1, 2, 3], "images": [1, 2], "text": [0, 3]}


@pytest.mark.slow
def test_a_question_without_images_is_text_only() -> None:
    asked = [each for each in questions() if each.kind == "colour"][:2]
    assert [len(each.scenes) for each in asked] == [1, 0]
    batch = Loaded.open(WEIGHTS).batch(asked, ["A", "A"])
    image = 6  # <|image_pad|>
    assert batch.ids.shape[0] == 2 and len(batch.grids) == 1
    assert (batch.ids == image).sum(1).tolist()[1] == 0 < (batch.ids == image).sum(1).tolist()[0]
