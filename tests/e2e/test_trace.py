"""python -m runner.trace with real engines: it names what was damaged, and else nothing."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from runner.canary import WEIGHTS
from runner.canary.moe import WEIGHTS as EXPERTS
from runner.config import recorded
from runner.evidence.samples import read_samples
from runner.plan import TracePlan
from runner.rundir import RunDirectory
from runner.runtimes.sketching.projection import Projection
from runner.trace.findings import findings
from runner.trace.result import TraceResult
from runner.trace.runs import Side
from runner.trace.tracing import trace as trace_runs
from tests.e2e.conftest import Finished, Run, environment

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Trace:
    """A trace that has ended: its status, what it printed, and trace.json."""

    status: int
    printed: str
    found: dict[str, Any]


@pytest.fixture(scope="module")
def reference(run: Run) -> Finished:
    return run("task.limit=2", "tracking=off", "journal=off")


@pytest.fixture(scope="module")
def trace(
    reference: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], Trace]:
    return _tracing(reference, tmp_path_factory)


@pytest.fixture(scope="module")
def trace_experts(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], Trace]:
    """The same with the mixture-of-experts canary."""
    reference = run("model=canary_moe", "task.limit=2", "tracking=off", "journal=off")
    return _tracing(reference, tmp_path_factory)


def _tracing(
    reference: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], Trace]:
    """Trace a run against itself with changes; its own traces are made once."""
    where = tmp_path_factory.mktemp("trace")

    def traced(changes: dict[str, Any], *more: str) -> Trace:
        candidate = tmp_path_factory.mktemp("candidate")
        shutil.copytree(reference.directory, candidate, dirs_exist_ok=True)
        tree = OmegaConf.load(candidate / "config.yaml")
        for key, value in changes.items():
            OmegaConf.update(tree, key, value)
        OmegaConf.save(tree, candidate / "config.yaml")
        words = [str(reference.directory), str(candidate), "--output-dir", str(where), *more]
        ended = subprocess.run(
            [sys.executable, "-m", "runner.trace", *words],
            cwd=where,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert (where / "trace.html").is_file(), ended.stdout
        return Trace(ended.returncode, ended.stdout, json.loads((where / "trace.json").read_text()))

    return traced


def damaged(directory: Path, tensor: str, weights: Path = WEIGHTS) -> str:
    """A copy of a canary with one tensor wrong by 5 %."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(weights, directory)
    file = directory / "model.safetensors"
    tensors = load_file(file)
    whole = tensors[tensor]
    noise = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1))
    tensors[tensor] = (whole.float() * (1 + 0.05 * noise)).to(whole.dtype)
    save_file(tensors, file, metadata={"format": "pt"})
    return str(directory)


# Of the damaged layers, that whose whole outputs are written too.
DUMPED = "layers.2.mlp.down_proj"


@pytest.mark.parametrize(
    ("tensor", "module", "phase"),
    [
        ("model.layers.2.mlp.down_proj.weight", "layers.2.mlp.down_proj", "prefill"),
        pytest.param(
            *("visual.blocks.1.attn.proj.weight", "visual.blocks.1.attn.proj", "vision"),
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            *("model.layers.1.self_attn.k_proj.weight", "layers.1.self_attn.k_proj", "prefill"),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_a_damaged_layer_is_named(
    tensor: str, module: str, phase: str, trace: Callable[..., Trace], tmp_path: Path
) -> None:
    weights, target = damaged(tmp_path / "weights", tensor), tmp_path / "whole"
    dump = ("--dump", str(target)) if module == DUMPED else ()
    found = trace({"model.pretrained": weights}, *dump)
    assert found.status == 3, found.printed
    first = found.found["found"]["first"]
    assert (first["module"], first["phase"]) == (module, phase)
    assert found.found["found"]["before"] < 1.5
    assert f"The first module that departs is {module}" in found.printed
    if dump:
        _check_dump(target, found)


def _check_dump(directory: Path, found: Trace) -> None:
    """The first departing module, whose input agrees: its sketches are those of the dump."""
    index = json.loads((directory / "index.json").read_text())
    assert f"dump: {directory / 'index.json'}" in found.printed.replace("\n", "")
    assert index["left_out"] == []
    judged = {(each["module"], each["phase"]): each for each in found.found["found"]["modules"]}
    dumped: dict[tuple[str, str], list[Any]] = {}
    for each in index["arrays"]:
        array = np.load(directory / each["file"], allow_pickle=False)
        assert array.shape == tuple(each["shape"]) == (len(each["positions"]), array.shape[1])
        pairs = dumped.setdefault((each["module"], each["phase"]), [])
        if each["side"] == "a":
            pairs.append((array, np.load(directory / f"b{each['file'][1:]}", allow_pickle=False)))
    assert [*dict.fromkeys(module for module, _ in dumped)] == ["layers.2.mlp.act_and_mul", DUMPED]
    for key, pairs in dumped.items():
        assert len(pairs) == judged[key]["questions"]
        assert sum(len(a) for a, _ in pairs) == judged[key]["rows"]
        sketched = _relative(pairs, Projection(TracePlan().size))
        assert sketched == pytest.approx(judged[key]["difference"], rel=1e-3, abs=1e-6), key
        assert _relative(pairs, None) == pytest.approx(sketched, rel=0.4, abs=1e-6), key


def _relative(pairs: list[Any], projection: Projection | None) -> float:
    """The root mean square over questions, as a trace has it, of arrays or of their sketches."""

    def size(rows: Any) -> Any:
        given = rows if projection is None else projection.of(rows, range(rows.shape[1]))
        return np.linalg.norm(given, axis=1)

    squares = [((size(a - b) / size(a)) ** 2).mean() for a, b in pairs]
    return float(np.sqrt(np.mean(squares)))


@pytest.mark.parametrize(
    ("changes", "least"),
    [
        ({}, 170),
        pytest.param({"parallelism.tp": 2}, 170, marks=pytest.mark.exhaustive),
        pytest.param({"engine.runtime": "transformers"}, 140, marks=pytest.mark.exhaustive),
    ],
)
def test_nothing_departs_on_a_correct_stack(
    changes: dict[str, Any], least: int, trace: Callable[..., Trace], tmp_path: Path
) -> None:
    """The same one, two ranks, and another runtime; `least` outputs are compared."""
    whole = tmp_path / "whole"
    found = trace(changes, *(() if changes else ("--dump", str(whole))))
    assert found.status == 0, found.printed
    if not changes:  # a dump that fails leaves the result
        assert "no module departs in eager mode; name modules with" in found.printed
        assert not whole.exists()
    modules = found.found["found"]["modules"]
    assert len(modules) >= least
    assert {each["phase"] for each in modules} == {"vision", "prefill", "decode"}
    assert max(each["difference"] for each in modules) < 1e-5
    if changes:
        assert max(each["difference"] for each in modules) > 0


@pytest.mark.exhaustive
def test_a_data_type_departs_if_it_is_no_noise_and_its_trace_is_reused(
    reference: Finished, tmp_path: Path
) -> None:
    """With chosen questions: the second of each subtask."""
    samples = read_samples(RunDirectory(reference.directory).samples)
    questions = {each.task: [each.doc_id] for each in samples}
    good = recorded.read(reference.directory)
    sides = Side("A", good), Side("B", good, {"engine.dtype": "bfloat16"})

    def traced() -> tuple[TraceResult, str]:
        printed = io.StringIO()
        found = trace_runs(
            reference.directory,
            *sides,
            tmp_path,
            12,
            Console(file=printed, width=1000),
            questions,
            noise_dtype=False,
        )
        return found, printed.getvalue()

    result, _ = traced()
    assert {" ".join(each.split()[:2]) for each in result.questions} == {
        f"{name} {document}" for name, (document,) in questions.items()
    }
    assert result.found is not None and result.found.first is not None
    assert result.found.first.phase == "vision"
    assert "B's rounding alone" in " ".join(findings(result))
    again, printed = traced()
    assert printed.count("already traced") == 3
    assert again == result


@pytest.mark.exhaustive
def test_a_damaged_expert_is_named(trace_experts: Callable[..., Trace], tmp_path: Path) -> None:
    """In the damaged block, tokens are routed as in A, and only those of expert 3 differ."""
    tensor = "model.layers.1.mlp.experts.3.down_proj.weight"
    weights = damaged(tmp_path / "weights", tensor, EXPERTS)
    found = trace_experts({"model.pretrained": weights})
    assert found.status == 3, found.printed
    assert "Expert 3 of layers.1.mlp departs alone" in found.printed
    before = found.found["routings"][:2]
    assert [each["block"] for each in before] == ["layers.0.mlp", "layers.1.mlp"]
    assert all(each["changed"] == 0 and min(each["first"]) > 0 for each in before)
    assert found.found["experts"]["alone"] == 3


@pytest.mark.exhaustive
def test_no_expert_of_a_healthy_pair_departs(trace_experts: Callable[..., Trace]) -> None:
    """Both runtimes route all tokens alike."""
    found = trace_experts({"engine.runtime": "transformers"})
    assert found.status == 0, found.printed
    assert [each["changed"] for each in found.found["routings"]] == [0, 0, 0]
    assert found.found["experts"] is None
    assert "Expert " not in found.printed


@pytest.mark.skipif(shutil.which("g++") is None, reason="graph mode needs a C++ compiler")
@pytest.mark.exhaustive
def test_a_fault_of_graph_mode_is_found_at_the_boundaries_of_the_graph(
    trace: Callable[..., Trace],
) -> None:
    """Nothing departs in eager mode, and what is computed before the graph agrees.

    In the other modes, the CPU platform chooses the backend itself.
    """
    backend = "tests.faults.graphs.wrong"
    found = trace(
        {
            "engine.enforce_eager": False,
            "engine.extra.compilation_config": {"mode": 2, "backend": backend},
            "engine.env.VLLM_USE_AOT_COMPILE": "0",  # it can't store what this backend compiles
            "engine.env.CXX": "g++",  # other tests have no compiler
        }
    )
    assert found.status == 3, found.printed
    assert found.found["found"]["first"] is None
    (graph,) = found.found["graphs"]
    modules = {(each["module"], each["phase"]): each for each in graph["found"]["modules"]}
    assert modules["embed_tokens", "prefill"]["difference"] == 0
    assert graph["found"]["first"]["module"] == "hidden_states"
    assert ("lm_head", "decode") in modules
    assert "layers.0.self_attn.q_proj" in graph["unseen"]["prefill"]
    assert "in graph mode B departs from itself at hidden_states" in found.printed
