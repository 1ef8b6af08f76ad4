"""The mixture-of-experts canary on a real engine."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.slow

EACH = 5  # questions of each kind


def test_the_engine_gives_the_replies_of_transformers(run: Run) -> None:
    from runner.canary.moe.data import load
    from runner.canary.moe.questions import KINDS
    from runner.canary.moe.score import open_weights, reply

    finished = run("model=canary_moe", f"task.limit={EACH}", "tracking.enabled=false")
    said = {(each["task"], each["doc_id"]): each["responses"][0] for each in finished.samples()}
    asked = load()
    for kind in KINDS:
        first = [each for each in asked if each.kind == kind][:EACH]
        expected = reply(*open_weights(), first)
        assert [said[f"canary_moe_{kind}", i] for i in range(EACH)] == expected
    assert len(said) == EACH * len(KINDS)
