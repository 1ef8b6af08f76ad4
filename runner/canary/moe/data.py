"""Writes the questions of the mixture-of-experts canary: ``python -m runner.canary.moe.data``.

There is one configuration per kind, so that lm-eval sees one task per kind. Training draws its
questions from other random streams and might draw one of these again only by chance.
"""

import argparse
import random
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset

from runner.canary.data import FILE, write_tables
from runner.canary.moe import DATASET
from runner.canary.moe.questions import KINDS, Question, ask

SEED = 20261130
ROWS = 100

_INTRODUCTION = """\
# Questions of the mixture-of-experts canary

{rows} synthetic text questions, {per_kind} of each kind, drawn by
`python -m runner.canary.moe.data` with seed {seed}. They belong to the checkpoint in
`../../moe/weights`. Licence: Apache-2.0.
"""


def questions(kind: str) -> list[Question]:
    """The held-out questions of one kind."""
    rng = random.Random(f"validation {SEED} {kind}")
    return [ask(rng, kind) for _ in range(ROWS)]


def load(directory: Path = DATASET) -> list[Question]:
    """All questions of a stored data set, by kind and in file order."""
    return [
        Question(kind, row["question"], row["answer"])
        for kind in KINDS
        for row in pq.read_table(directory / kind / FILE).to_pylist()
    ]


def write(out: Path) -> None:
    """Write the parquet files and the README.md whose header lists them as configurations."""
    tables = {
        kind: Dataset.from_list(
            [{"question": each.text, "answer": each.answer} for each in questions(kind)]
        )
        for kind in KINDS
    }
    text = _INTRODUCTION.format(rows=ROWS * len(KINDS), per_kind=ROWS, seed=SEED)
    write_tables(out, tables, text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
