"""Traces without engines: what each run is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from runner.config.recorded import Recorded
from runner.plan import Plan, TracePlan
from runner.rundir import RunDirectory
from runner.runtimes.sketching.recorder import Recorder
from runner.trace import tracing
from runner.trace.findings import findings
from runner.trace.runs import Replayed, Settled, Side
from runner.trace.tracing import trace

# By run: 1,000 times what float32 rounds, and 12 times what bfloat16 does.
FAULTS = {"a-graph": 1e-3, "b-graph": 0.02}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class _Runs:
    """Leaves sketches of outputs in the data type of the side; one is faulty in graph mode."""

    plan: Plan
    faulty = ""

    def __init__(self, out: Console) -> None: ...

    def __enter__(self) -> _Runs:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def trace(self, side: Side, changes: Mapping[str, Any], title: str) -> Plan:
        place = Path(changes["output_dir"])
        fault = FAULTS[place.name] if place.name == self.faulty else 0.0
        generator = torch.Generator().manual_seed(2)
        recorder = Recorder(TracePlan())
        for number in range(8):
            rows = recorder.tokens(recorder.question(f"task {number} 0 0", [1]), 6, 0, 6, 0)
            values, wrong = (torch.randn(6, 32, generator=generator) for _ in range(2))
            output = values.to(TYPES[side.value("engine.dtype")]).float() + fault * wrong
            recorder.record("lm_head", output.to(TYPES[side.value("engine.dtype")]), rows)
        recorder.write(RunDirectory(place).sketches)
        return self.plan


def _side(name: str, dtype: str) -> Side:
    engine = {"runtime": "vllm", "dtype": dtype, "enforce_eager": False, "window": 8}
    return Side(name, Recorded(OmegaConf.create({"engine": engine})))


@pytest.mark.parametrize("faulty", FAULTS)
def test_the_graph_of_a_float32_run_is_not_judged_with_the_noise_of_bfloat16(
    faulty: str, tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Runs.plan, _Runs.faulty = plan, faulty
    monkeypatch.setattr(tracing, "Runs", _Runs)
    monkeypatch.setattr(tracing, "replayed", lambda *_: Replayed(tmp_path, ("task",), 8))

    def settled(side: Side, _: Replayed, place: Path, graph: bool = False) -> Settled:
        return Settled({"output_dir": str(place)}, ())

    monkeypatch.setattr(tracing, "settled", settled)
    first, second = _side("a", "float32"), _side("b", "bfloat16")
    console = Console(file=StringIO())
    found = trace(tmp_path, first, second, tmp_path, 8, console, graphs=True)
    departs = {each.letter: each.departs for each in found.graphs}
    assert departs == {"A": faulty == "a-graph", "B": faulty == "b-graph"}
    assert [each.measured for each in found.graphs] == [False, True]
    assert "the noise is what rounding does" in " ".join(findings(found))
