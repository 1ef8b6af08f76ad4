"""python -m runner.why with planted faults, in real engines: what it finds, and interrupted."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.sweep.record import sweep_id
from tests.e2e.conftest import Finished, Run, environment
from tests.events import events
from tests.planted.settings import FAULTS, HEALTHY, PLACES, SOUND, variables
from tests.shared_memory import orphans, segments

pytestmark = pytest.mark.slow

ASKED = (*SOUND, "journal=off", "task.limit=10")
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def good(run: Run) -> Finished:
    """All faults are planted, and the settings of none are set."""
    return run(*ASKED, variables=variables(*FAULTS))


def bad(run: Run, *settings: str) -> Finished:
    """The scores don't matter: a replay of the good run measures the difference."""
    return run(*ASKED, *settings, "tracking=off", variables=variables(*FAULTS))


def start(good: Finished, bad: Finished, output: Path, *words: str) -> subprocess.Popen[str]:
    return why([good.directory, bad.directory], output, *words)


def why(runs: list[Path], output: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner.why", *map(str, runs), *words, "--output", str(output)],
        cwd=output.parent,
        env={**environment(), **variables(*FAULTS), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate(timeout=PATIENCE_S)
    return printed


def wait_for(process: subprocess.Popen[str], what: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None and time.monotonic() < until, finish(process)
        time.sleep(0.05)


def probes(output: Path) -> dict[str, Path]:
    """The directories of the probes that have a verdict, by name."""
    return {each.parent.name: each.parent for each in output.glob("probes/*/verdict.json")}


def written(directories: dict[str, Path]) -> dict[str, int]:
    """When each probe got its verdict."""
    return {name: (each / "verdict.json").stat().st_mtime_ns for name, each in directories.items()}


def causes(output: Path) -> list[set[str]]:
    """The keys of each cause."""
    found = json.loads((output / "why.json").read_text())
    return [
        {
            line.partition(":")[0]
            for number in cause["switches"]
            for line in found["switches"][number]
        }
        for cause in found["causes"]
    ]


def module(output: Path) -> str:
    """The first module that departs with the first cause."""
    found = json.loads((output / "why.json").read_text())
    return str(found["origins"][0]["trace"]["found"]["first"]["module"])


def tagged(good: Finished, name: str) -> set[str]:
    """The directories of the runs in MLflow with this tag."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=good.store)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, filter_string=f"tags.sweep = '{name}'")
    return {each.data.tags["run_directory"] for each in runs}


def keys(overrides: tuple[str, ...]) -> set[str]:
    return {each.partition("=")[0] for each in overrides}


def test_one_of_twelve_settings_is_found_although_the_search_was_interrupted(
    run: Run, good: Finished, tmp_path: Path
) -> None:
    other = bad(run, *HEALTHY[:11], *FAULTS["head_env"])
    output, held = tmp_path / "interrupted", segments()

    process = start(good, other, output)
    running = output / "probes"
    wait_for(  # in the first engine of the search itself
        process,
        lambda: any(
            each["event"] == "worker_started"
            for file in running.glob("1-*/events.jsonl")
            for each in events(file)
        ),
    )
    family = psutil.Process(process.pid).children(recursive=True)
    before = written(probes(output))
    assert {"good", "noise", "bad"} <= before.keys()
    process.send_signal(signal.SIGINT)
    printed = finish(process)
    assert process.returncode == 130, printed
    assert "with the same --output continues" in printed and "Traceback" not in printed
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert orphans(held) == set()
    assert not (output / "why.json").exists()

    process = start(good, other, output)
    printed = finish(process)
    assert process.returncode == 0, printed
    after = written(probes(output))
    assert {name: after[name] for name in before} == before
    assert causes(output) == [keys(FAULTS["head_env"])]
    assert "engine.env.PLANTED_HEAD: not set → 1 makes the difference" in printed
    assert module(output).startswith(PLACES["head_env"])
    found = json.loads((output / "why.json").read_text())
    assert len(found["switches"]) == 12
    # `good` and `noise` share an engine, and the second search started none for what it knew.
    assert found["starts"] <= len(after) - len(before) + 1
    assert len(after) - 1 <= 2 * math.ceil(math.log2(12)) + 4
    for directory in probes(output).values():
        for name in ("config.yaml", "command.txt", "plan.json", "samples.parquet", "report.html"):
            assert (directory / name).is_file(), directory


@pytest.mark.exhaustive
def test_settings_that_show_a_fault_only_together(run: Run, good: Finished, tmp_path: Path) -> None:
    other = bad(run, *FAULTS["chunked_rope"], "engine.seed=7")
    output = tmp_path / "together"
    process = start(good, other, output)
    printed = finish(process)
    assert process.returncode == 0, printed
    assert causes(output) == [keys(FAULTS["chunked_rope"])]
    assert "but only together" in printed
    assert module(output).startswith(PLACES["chunked_rope"])
    assert tagged(good, sweep_id(output)) == set(map(str, probes(output).values()))


RUNGS = """\
rungs:
  - change: no asynchronous scheduling
    overrides: [engine.extra.async_scheduling=false]
  - change: the layer as it was
    overrides: [engine.env.PLANTED_MLP=0]
"""


@pytest.mark.exhaustive
def test_a_ladder_tells_what_has_no_effect_from_what_needs_its_scores(
    run: Run, tmp_path: Path
) -> None:
    """So few questions can't show that the scores are higher."""
    other = bad(run, *FAULTS["mlp2"])
    (tmp_path / "rungs.yaml").write_text(RUNGS)
    output = tmp_path / "ladder"
    process = why([other.directory], output, "--ladder", "rungs.yaml")
    printed = finish(process)
    assert "none of the changes raises the scores" in printed.lower()
    first, second = json.loads((output / "why.json").read_text())["ladder"]
    assert first["said"].startswith("no effect beyond noise") and not first["good"]
    assert re.match(r"canary acc 0\.\d+ → 0\.\d+, not significantly higher", second["said"])
    assert process.returncode == 4 and not second["good"], printed


RAY = ("hydra/launcher=ray", "hydra.launcher.resources={CPU: 2}")


def working(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The engines and Ray tasks among them that have not ended."""
    found = []
    for each in processes:
        with suppress(psutil.Error):
            name = " ".join(each.cmdline())
            if each.status() != psutil.STATUS_ZOMBIE and (
                "runner.worker" in name or name.startswith("ray::point") or "raylet" in name
            ):
                found.append(each)
    return found


@pytest.mark.exhaustive
def test_on_ray_probes_run_side_by_side_and_a_killed_search_continues(
    run: Run, good: Finished, tmp_path: Path
) -> None:
    other = bad(run, *FAULTS["head_env"], "engine.seed=7")
    output = tmp_path / "ray"
    process = start(good, other, output, *RAY)
    wait_for(  # the halves of the settings, at the same time
        process,
        lambda: (
            len(list(output.glob("probes/1-[12]/events.jsonl"))) == 2
            and not (output / "probes/1-1/verdict.json").exists()
        ),
    )
    family = psutil.Process(process.pid).children(recursive=True)
    before = written(probes(output))
    assert {"good", "noise", "bad"} <= before.keys() and len(working(family)) >= 3
    process.kill()
    finish(process)
    until = time.monotonic() + 30
    while working(family) and time.monotonic() < until:
        time.sleep(0.1)
    assert working(family) == []

    process = start(good, other, output, *RAY)
    printed = finish(process)
    assert process.returncode == 0, printed
    assert causes(output) == [keys(FAULTS["head_env"])]
    after = written(probes(output))
    assert {name: after[name] for name in before} == before
    assert tagged(good, sweep_id(output)) >= set(map(str, probes(output).values()))
