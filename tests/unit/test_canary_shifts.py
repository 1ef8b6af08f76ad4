"""Statistics of what a fault does to log-probabilities, and the page that shows them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import entropy

torch = pytest.importorskip("torch")

from benchmarks.canary_faults import BEGIN, END, PAGE, inserted  # noqa: E402
from runner.canary.damage import Bench  # noqa: E402
from runner.canary.faults import all_faults  # noqa: E402
from runner.canary.shifts import shift  # noqa: E402


def test_a_shift_of_two_tokens_by_hand() -> None:
    """Probability 1/2 becomes 1/4 (-ln 2), and 1/4 becomes 1/2 (+ln 2), of 22 tokens."""
    before = torch.full((2, 22), 0.5 / 21)
    after = torch.full((2, 22), 0.75 / 21)
    before[0, 3], after[0, 3] = 0.5, 0.25
    before[1], after[1] = after[0], before[0]
    found = shift(before.log(), after.log(), torch.tensor([3, 3]))
    assert found.mean == pytest.approx(math.log(2), rel=1e-6)
    assert found.rms == pytest.approx(math.log(2), rel=1e-6)
    assert found.signed == pytest.approx(0, abs=1e-6)
    assert found.p99 == pytest.approx(math.log(2), rel=1e-6)
    there = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    back = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    assert found.kl == pytest.approx((there + back) / 2, rel=1e-5)


def test_statistics_agree_with_numpy_and_scipy() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.dirichlet(np.full(60, 0.3), 300), rng.dirichlet(np.full(60, 0.3), 300)
    before, after = (before + 1e-4) / 1.006, (after + 1e-4) / 1.006
    tokens = rng.integers(0, 60, 300)
    delta = np.log(after[np.arange(300), tokens]) - np.log(before[np.arange(300), tokens])
    divergences = []
    for row, other in zip(before, after, strict=True):
        top = np.argsort(-row)[:20]
        pair = [np.append(part[top], 1 - part[top].sum()) for part in (row, other)]
        divergences.append(entropy(*pair))
    found = shift(
        torch.from_numpy(before).log(), torch.from_numpy(after).log(), torch.from_numpy(tokens)
    )
    assert found.mean == pytest.approx(np.abs(delta).mean())
    assert found.rms == pytest.approx(np.sqrt((delta**2).mean()))
    assert found.signed == pytest.approx(delta.mean())
    assert found.p99 == pytest.approx(np.percentile(np.abs(delta), 99))
    assert found.kl == pytest.approx(np.mean(divergences))
    assert min(divergences) > 0


def test_tables_are_written_between_the_markers() -> None:
    page = f"before\n{BEGIN}old\n{END}after\n"
    assert inserted(page, "new\n") == f"before\n{BEGIN}\nnew\n\n{END}after\n"
    assert inserted(inserted(page, "x\n"), "new\n") == inserted(page, "new\n")
    for broken in ("", BEGIN, END, f"{END}{BEGIN}"):
        with pytest.raises(ValueError, match="has no line"):
            inserted(broken, "new\n")


def rows(title: str) -> dict[str, list[str]]:
    """The cells of a table of the page, by fault."""
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    table = text.partition(f"### {title}\n")[2].partition("###")[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]
    return {name: values for name, *values in cells}


def test_the_page_has_every_fault_and_the_same_reasons() -> None:
    faults = all_faults()
    for title in ("Accuracy and answers", "Token log-probabilities"):
        assert list(rows(title)) == [fault.name for fault in faults]
    listed = rows("Faults")
    for fault in faults:
        key = f"`{fault.key}`" if fault.edit else ""
        assert listed[fault.name] == [fault.reality, *([key] if key else [])]


@pytest.mark.slow
def test_measured_faults_agree_with_the_page_and_with_an_independent_measurement() -> None:
    """The 99th percentiles were measured with other code, by the audit of the `numerics` rule."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bench = Bench()
    faults = {fault.name: fault for fault in all_faults()}
    accuracy, tokens = rows("Accuracy and answers"), rows("Token log-probabilities")
    healthy = "none (bf16 weights, fp32 arithmetic)"
    for name, p99 in (
        (healthy, 0.0),
        ("int8 weights (per row)", 0.028),
        ("q/k/v bias dropped", 0.083),
        ("M-RoPE rows and columns swapped", 0.060),
    ):
        damage = bench.measure(faults[name])
        assert damage.shift.p99 == pytest.approx(p99, rel=0.05)
        assert damage.scored.accuracy()["all"] == pytest.approx(float(accuracy[name][0]), abs=0.002)
        assert damage.shift.mean == pytest.approx(float(tokens[name][0]), rel=0.1)
        assert damage.shift.kl == pytest.approx(float(tokens[name][6]), rel=0.1)
    torch.set_num_threads(threads)
