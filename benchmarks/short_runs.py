"""Compares short runs with the lm_eval command line: how much time is startup and shutdown.

    python -m benchmarks.short_runs [--pairs 3] [--other CHECKOUT]

The first case is the default run, `python -m runner`, which asks the canary 600 questions with an
image. The second is one run of three tasks on a language model of 135 million parameters with
random weights (the shape of SmolLM2-135M, bfloat16), compared with three lm_eval processes: two
tasks score choices, one generates. Each side runs as it is normally used: ours records in MLflow,
lm_eval logs samples. The sides alternate on one machine; ratios are of the medians.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many_questions import timed
from benchmarks.question_tasks import CHOICES, generated, write_task
from runner.plan import Plan
from runner.platforms.cpu import cure_this_process
from runner.present.lm_eval_command import lm_eval_command
from runner.rundir import read_json

CANARY = Path(__file__).parents[1] / "runner" / "canary" / "weights"
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
TASKS = {"first_choices": CHOICES, "second_choices": CHOICES, "generated": generated(32)}
DOCUMENTS = 100


@dataclass(frozen=True)
class Side:
    """A checkout and the settings to run with it."""

    checkout: Path
    settings: list[str]
    folder: Path
    name: str

    def ours(self) -> float:
        output = self.folder / self.name
        shutil.rmtree(output, ignore_errors=True)
        words = [sys.executable, "-m", "runner", f"output_dir={output}", "journal.enabled=false"]
        return timed([*words, *self.settings], self.folder, {"PYTHONPATH": str(self.checkout)})

    def lm_eval(self) -> float:
        plan: Plan = read_json(self.folder / "ours" / "plan.json", Plan)
        logged = f" --log_samples --output_path {self.folder / 'theirs'}"
        lines = [
            line + logged if line.startswith("lm_eval ") else line
            for line in lm_eval_command(plan).splitlines()
        ]
        return timed(["bash", "-ec", "\n".join(lines)], self.folder, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--other", type=Path, help="a checkout to compare with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare("default run", [], Path(name), given.pairs, given.other)
    with tempfile.TemporaryDirectory() as name:
        compare("three tasks", three_tasks(Path(name)), Path(name), given.pairs, given.other)


def compare(kind: str, settings: list[str], folder: Path, pairs: int, other: Path | None) -> None:
    here = Side(Path(__file__).parents[1], settings, folder, "ours")
    took: dict[str, list[float]] = {}
    for _ in range(pairs):
        took.setdefault("ours", []).append(here.ours())
        if other is not None:
            there = Side(other.resolve(), settings, folder, "other")
            took.setdefault("other checkout", []).append(there.ours())
        took.setdefault("lm_eval", []).append(here.lm_eval())
    ours = statistics.median(took["ours"])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        each = ", ".join(f"{one:.1f}" for one in seconds)
        print(
            f"{kind}, {name}: {each} s, median {median:.1f}; ours {ours / median:.2f} of it",
            flush=True,
        )


def three_tasks(folder: Path) -> list[str]:
    """Write the model and the tasks to the folder; returns the settings of a run on them."""
    weights = folder / "weights"
    write_model(weights)
    tasks = folder / "tasks"
    tasks.mkdir()
    for name, asked in TASKS.items():
        documents = (
            {
                "question": f"{name} {n}: a {n % 7} b {n % 11} is",
                "choices": list("abcd"),
                "answer": n % 4,
            }
            for n in range(DOCUMENTS)
        )
        write_task(tasks, name, asked, documents)
    models = folder / "conf" / "model"
    models.mkdir(parents=True)
    (models / "small.yaml").write_text(
        f"name: small\npretrained: {weights}\nbackend: vllm\n", encoding="utf-8"
    )
    names = ",".join(TASKS)
    return [
        *["model=small", f"task.names=[{names}]", f"task.include_path={tasks}"],
        *["task.data_dir=null", "task.apply_chat_template=false"],
        *["--config-dir", str(models.parent)],
    ]


def write_model(weights: Path) -> None:
    cure_this_process()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    weights.mkdir()
    torch.manual_seed(0)
    config = AutoConfig.for_model(**SHAPE)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(weights)
    for file in CANARY.glob("*token*"):
        shutil.copy(file, weights)


if __name__ == "__main__":
    main()
