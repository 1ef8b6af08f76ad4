"""Real engines, started as a user starts them: `python -m runner`, in a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.keeping_full import PADDING
from runner.canary import WEIGHTS
from tests.secret_names import NAMES

PROJECT = Path(__file__).parent.parent.parent

# Sentences of few bytes: the canary's tokenizer spells unknown words letter by letter.
SUMS = [{"question": f"{a} plus {a}?", "answer": f"{a}+{a}. #### {2 * a}"} for a in range(1, 9)]
CHOICES = [
    {
        "id": number,
        "question": f"{number}?",
        "A": "one",
        "B": "two",
        "C": "red",
        "D": "blue",
        "answer": "ABCD"[number % 4],
        "explanation": "",
    }
    for number in range(8)
]


# What is secret has this in it, wherever people keep such things.
CANARY = "canary-4be1d0a7c2"
SECRETS = {
    **{name: f"{CANARY}-{name.lower()}" for name in NAMES},
    **{
        name: f"http://somebody:{CANARY}@127.0.0.1:9"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "HF_ENDPOINT")
    },
    "PIP_INDEX_URL": f"https://{CANARY}@packages.example.org/simple",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its status, what it printed, and its directory."""

    status: int
    printed: str
    directory: Path
    store: str

    def json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text())

    @property
    def report(self) -> str:
        return (self.directory / "report.md").read_text()

    def samples(self) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(self.directory / "samples.parquet").to_pylist()
        return rows


def command(directory: Path, store: str, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "runner",
        f"output_dir={directory}",
        f"tracking.uri={store}",
        *overrides,
    ]


def environment() -> dict[str, str]:
    """A user's own: no hub, no C++ compiler, and the checkout found from anywhere."""
    absent = {
        "HF_HUB_OFFLINE": "1",
        "CXX": "no-compiler",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    }
    return {**os.environ, **absent, "PYTHONPATH": str(PROJECT)}


def unhurried(step_s: float = 2.0) -> dict[str, str]:
    """The same, where an engine's steps take so long: a test that is to kill one is not too late.

    Ranks wait for their next step with sched_yield for a second (busy_loop_s in vLLM's
    shm_broadcast.py), in which nobody else may get a turn on a busy machine: seconds of theirs
    passed unseen. Behind that second they sleep.
    """
    path = os.pathsep.join((str(PADDING), str(PROJECT)))
    return {**environment(), "PYTHONPATH": path, "PADDED_STEP_S": str(step_s)}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all runs of the session."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


Run = Callable[..., Finished]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, store: str) -> Run:
    def start(
        *overrides: str, store: str = store, variables: Mapping[str, str] | None = None
    ) -> Finished:
        where = tmp_path_factory.mktemp("run")
        directory = where / "out"
        ended = subprocess.run(
            command(directory, store, *overrides),
            cwd=where,
            env={**environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Finished(ended.returncode, ended.stdout, directory, store)

    return start


@pytest.fixture(scope="session")
def default_run(run: Run) -> Finished:
    """`python -m runner`, and nothing else: shared by every test that only looks.

    Its user has secrets, which no test may find anywhere (tests/e2e/test_secrets.py).
    """
    return run(variables=SECRETS)


@pytest.fixture(scope="session")
def text_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gsm8k and one subject of C-Eval in the layout of their hub repositories."""
    root = tmp_path_factory.mktemp("data")
    _write_repository(root / "openai/gsm8k", {"main": {"train": SUMS, "test": SUMS}})
    _write_repository(root / "ceval/ceval-exam", {"accountant": {"val": CHOICES, "dev": CHOICES}})
    return root


def _write_repository(
    repository: Path, configurations: dict[str, dict[str, list[dict[str, Any]]]]
) -> None:
    header = ["---", "configs:"]
    for name, splits in configurations.items():
        header += [f"- config_name: {name}", "  data_files:"]
        for split, rows in splits.items():
            file = repository / name / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            header += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
    (repository / "README.md").write_text("\n".join([*header, "---", ""]))


@pytest.fixture(scope="session")
def ask_text(text_data: Path) -> tuple[str, ...]:
    """Two tasks of text alone, generation and choices, asked as Qwen3-8B is."""
    return (
        "model=qwen3_8b",
        "task.names=[gsm8k,ceval-valid_accountant]",
        f"task.data_dir={text_data}",
        "task.gen_kwargs.max_gen_toks=16",
        "engine.dtype=float32",
        "model.baselines.ceval-valid_accountant.acc.none=0.25",
        "verdict.rtol=0.99",
    )


@pytest.fixture(scope="session")
def text_run(run: Run, ask_text: tuple[str, ...]) -> Finished:
    """Both tasks answered by the canary's weights on vLLM."""
    return run(*ask_text, f"model.pretrained={WEIGHTS}")


def promote(finished: Finished, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner.promote", str(finished.directory), *options],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def damaged_run(
    run: Run, default_run: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """The canary with one text attention layer silenced, judged against the sound run by its alias:
    question by question, and by its log-probabilities."""
    from safetensors.torch import load_file, save_file

    from runner.canary import WEIGHTS

    weights = tmp_path_factory.mktemp("damaged") / "weights"
    shutil.copytree(WEIGHTS, weights)
    tensors = load_file(weights / "model.safetensors")
    tensors["model.layers.1.self_attn.o_proj.weight"].zero_()
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    promoted = promote(default_run)
    assert promoted.returncode == 0, promoted.stderr
    return run(
        "model=canary_vl",
        f"model.pretrained={weights}",
        "verdict=numerics",
        "verdict.reference=baseline@canary_vl/canary",
        "verdict.metrics.canary.acc.none.rule=paired",
    )
