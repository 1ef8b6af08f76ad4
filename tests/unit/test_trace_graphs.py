"""Graph mode is compared with eager mode where hooks see its outputs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runner.evidence.sketches import Sketches, read_sketches
from runner.plan import TracePlan
from runner.runtimes.sketching.names import HIDDEN
from runner.runtimes.sketching.recorder import Recorder
from runner.trace import departures, findings, page
from runner.trace.departures import FACTOR
from runner.trace.differences import differences
from runner.trace.graphs import Graph, graph, modules
from tests.traces import differences as made_up
from tests.traces import result

LAYERS = 30
NAMES = ("embed_tokens", *(f"layers.{n}.mlp" for n in range(LAYERS)), "norm", HIDDEN, "lm_head")
SEEN = ("embed_tokens", HIDDEN, "lm_head")


def _traced(directory: Path, names: Sequence[str], error: float = 0.0) -> Sketches:
    """Outputs with a relative error behind the embeddings."""
    generator = torch.Generator().manual_seed(2)
    recorder = Recorder(TracePlan())
    for number in range(8):
        rows = recorder.tokens(recorder.question(f"task {number} 0 0", [1]), 6, 0, 6, 0)
        for name in NAMES:
            values, noise = (torch.randn(6, 32, generator=generator) for _ in range(2))
            if name in names:
                wrong = values if name == "embed_tokens" else values + error * noise
                recorder.record(name, wrong, rows)
    recorder.write(directory)
    return read_sketches(directory)


def _of_both_phases(directory: Path, names: Sequence[str], error: float = 0.0) -> Sketches:
    """The same in bfloat16: all outputs in prefill, and some in decode, with the error."""
    generator = torch.Generator().manual_seed(2)
    recorder = Recorder(TracePlan())
    for number in range(8):
        question = recorder.question(f"task {number} 0 0", [1] * 6)
        for start, wrong, seen in ((0, 0.0, NAMES), (6, error, names)):
            rows = recorder.tokens(question, 6, start, 6, 0)
            for name in NAMES:
                values, noise = (torch.randn(6, 32, generator=generator) for _ in range(2))
                if name in seen:
                    factor = 0.0 if name == "embed_tokens" else wrong
                    recorder.record(name, (values + factor * noise).bfloat16(), rows)
    recorder.write(directory)
    return read_sketches(directory)


def _graph(tmp_path: Path, error: float, letter: str = "B") -> Graph:
    eager = _traced(tmp_path / "eager", NAMES)
    return graph(letter, eager, _traced(tmp_path / "g", SEEN, error), differences(eager, eager))


def test_a_fault_inside_the_graph_is_found_in_what_it_returns(tmp_path: Path) -> None:
    found = _graph(tmp_path, 0.05)
    assert found.departs and found.found is not None and found.found.first is not None
    assert found.found.first.module == HIDDEN
    assert [each.module for each in found.found.modules] == list(SEEN)
    assert found.unseen == {"prefill": NAMES[1:-2]}
    traced = replace(result(), graphs=(found,))
    said = "in graph mode B departs from itself at hidden_states"
    assert said in findings.headline(traced) and findings.conclusion(traced).count(said) == 1
    assert traced.exit_status == 3
    text = page.html(traced, "command")
    assert "B in graph mode" in text and "31 are invisible: layers.0.mlp" in text
    assert "## B in graph mode" in page.markdown(traced, "command")


@pytest.mark.parametrize(("error", "departs"), [(4e-6, False), (4e-5, True)])
def test_rounding_in_invisible_modules_is_noise(
    error: float, departs: bool, tmp_path: Path
) -> None:
    """Behind 31 modules, that of float32 is 3.4 times as much as behind none."""
    assert _graph(tmp_path, error).departs == departs


@pytest.mark.parametrize(("error", "departs"), [(0.01, False), (0.05, True)])
def test_modules_can_be_invisible_in_decode_alone(
    error: float, departs: bool, tmp_path: Path
) -> None:
    """As in a graph of decode alone. The smaller error is 5 times what bfloat16 rounds."""
    eager = _of_both_phases(tmp_path / "eager", NAMES)
    graphs = _of_both_phases(tmp_path / "graph", SEEN, error)
    found = graph("B", eager, graphs, differences(eager, eager))
    assert found.departs == departs
    assert found.unseen == {"prefill": (), "decode": NAMES[1:-2]}
    said = " ".join(findings.findings(replace(result(), graphs=(found,))))
    assert f"In prefill (prompt tokens), {len(NAMES)} outputs are outside of B's graph" in said
    assert "In decode (answer tokens), 3 outputs are outside of B's graph, the last" in said
    assert said.count("are invisible") == said.count("31 are invisible: layers.0.mlp") == 1


def test_a_graph_that_agrees_or_cannot_be_traced_leaves_the_result(tmp_path: Path) -> None:
    agreeing = _graph(tmp_path, 0.0, "A")
    failed = Graph("B", None, failed="the traced run ended with ERROR")
    traced = replace(result(), graphs=(agreeing, failed))
    said = " ".join(findings.findings(traced))
    assert "A in graph mode agrees with A in eager mode" in said
    assert "B could not be traced in graph mode, which remains a suspect: the traced run" in said
    assert findings.headline(traced) == "Nothing departs beyond noise."
    assert traced.exit_status == 0
    assert "suspect" not in " ".join(findings.findings(replace(traced, graphs=(agreeing,))))


def test_a_graph_that_differs_without_significance_does_not_agree() -> None:
    state = random.Random(3)
    noise = made_up(state, spread=0.0)
    unsure = made_up(state, spread=3.0, factor=8.0)
    judged = departures.found(unsure, noise)
    assert judged.first is None and max(each.ratio for each in judged.modules) > FACTOR
    found = Graph("B", judged, {"prefill": ()})
    said = " ".join(findings.findings(replace(result(), graphs=(found,))))
    assert "agrees with" not in said
    assert "B in graph mode against B in eager mode: none of 38 compared outputs is signif" in said


def test_the_final_hidden_states_are_no_module_of_their_own(tmp_path: Path) -> None:
    eager = _traced(tmp_path, NAMES)
    assert HIDDEN not in [each.module for each in modules(differences(eager, eager))]
