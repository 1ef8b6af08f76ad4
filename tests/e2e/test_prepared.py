"""Prepared on a machine with a hub, carried over, run on one without: the answers are the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import PROJECT, Finished, command, environment
from tests.hub import Hub

pytestmark = pytest.mark.slow

CANARY = PROJECT / "runner" / "canary"
MODEL, QUESTIONS = "runner-tests/canary.vl", "runner-tests/canary-questions"
QUESTIONS_ASKED = 8
LIMIT = f"task.limit={QUESTIONS_ASKED}"
NO_HUB = "http://127.0.0.1:1"


def files(root: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()
    }


def environment_with(endpoint: str, home: Path) -> dict[str, str]:
    """Free to ask a hub, this one, and with nothing in the cache."""
    return {**environment(), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}


@dataclass(frozen=True)
class Carried:
    """A prepared directory where it was carried to, and lm-eval's tasks over its data."""

    directory: Path
    tasks: Path

    @property
    def overrides(self) -> list[str]:
        """The same model and tasks for prepare and for the run."""
        return [
            "model=canary_vl",
            f"model.pretrained={MODEL}",
            f"task.include_path={self.tasks}",
            "task.data_dir=null",
        ]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carried]:
    where = tmp_path_factory.mktemp("connected")
    tasks = where / "tasks"
    shutil.copytree(CANARY / "tasks", tasks)
    template = tasks / "_template_yaml"
    text = template.read_text()
    assert "dataset_path: canary\n" in text
    template.write_text(text.replace("dataset_path: canary\n", f"dataset_path: {QUESTIONS}\n"))
    found = Carried(where / "prepared", tasks)
    model = {**files(CANARY / "weights"), "pytorch_model.bin": b"not needed" * 1000}
    data = files(CANARY / "datasets" / "canary")
    with Hub(models={MODEL: model}, datasets={QUESTIONS: data}) as hub:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "runner.prepare", "engine=cpu"),
                *(f"source.dir={found.directory}", *found.overrides),
            ],
            cwd=where,
            env=environment_with(hub.endpoint, where / "home"),
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    away = tmp_path_factory.mktemp("offline") / "carried"
    shutil.move(found.directory, away)
    yield Carried(away, tasks)


def run_offline(carried: Carried, where: Path, store: str, *overrides: str) -> Finished:
    directory = where / "out"
    local = ["source=local", f"source.dir={carried.directory}", *carried.overrides]
    done = subprocess.run(
        command(directory, store, *local, *overrides),
        cwd=where,
        env=environment_with(NO_HUB, where / "home"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    return Finished(done.returncode, done.stdout, directory, store)


def test_the_run_asks_no_hub_and_answers_as_ever(
    default_run: Finished, carried: Carried, tmp_path: Path, store: str
) -> None:
    assert not (carried.directory / "weights" / MODEL / "pytorch_model.bin").exists()
    here, there = default_run, run_offline(carried, tmp_path, store, LIMIT)
    assert there.status == 4, there.printed  # a part of the questions
    assert "against its manifest" in there.printed

    def answers(finished: Finished) -> dict[tuple[str, int], tuple[object, ...]]:
        """The first questions of each kind: what was answered, and what it was worth."""
        return {
            (row["task"], row["doc_id"]): (*row["responses"], dict(row["scores"])["acc"])
            for row in finished.samples()
            if row["doc_id"] < QUESTIONS_ASKED
        }

    found = answers(there)
    assert found == answers(here)
    assert len(found) == 6 * QUESTIONS_ASKED == len(there.samples())
    (whole,) = [m for m in there.json("verdict.json")["metrics"] if m["task"] == "canary"]
    assert whole["value"] == pytest.approx(sum(each[-1] for each in found.values()) / len(found))
    plans = there.json("plan.json"), here.json("plan.json")
    assert plans[0]["engine_fingerprint"] == plans[1]["engine_fingerprint"]


@pytest.mark.parametrize("verify", ["sampled", "whole"])
@pytest.mark.parametrize("place", [f"weights/{MODEL}/model.safetensors", f"data/{QUESTIONS}/shape"])
def test_a_tampered_file_is_named_and_nothing_is_started(
    carried: Carried, tmp_path: Path, store: str, place: str, verify: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(carried.directory, copy)
    file = copy / place
    file = next(file.iterdir()) if file.is_dir() else file
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    tampered = Carried(copy, carried.tasks)
    finished = run_offline(tampered, tmp_path, store, f"source.verify={verify}")
    assert finished.status == 1, finished.printed
    assert f"{file}: content differs from the manifest (different hash)" in finished.printed
    assert "Traceback" not in finished.printed
    assert not finished.directory.exists()
