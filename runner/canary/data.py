"""Writes the canary's evaluation split (MMMU schema): ``python -m runner.canary.data --out DIR``.

There is one configuration per kind, so that lm-eval sees one subject per kind. Training draws its
questions from other random streams, so it has seen none of these.
"""

import argparse
import ast
import io
import itertools
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from runner.canary import DATASET
from runner.canary.questions import KINDS, LETTERS, Question, ask
from runner.canary.scenes import Scene

SEED = 20261122
ROWS = 100
IMAGES = 7
# Counts that are almost always right would only dilute the hard kind.
TOO_EASY = ("one", "two", "three", "four")
FILE = "validation-00000-of-00001.parquet"
DIFFICULTY = {"colour": "Easy", "shape": "Easy", "count": "Hard", "compare": "Hard"}

COLUMNS = (
    "id",
    "question",
    "options",
    "explanation",
    *(f"image_{i + 1}" for i in range(IMAGES)),
    "img_type",
    "answer",
    "topic_difficulty",
    "question_type",
    "subfield",
)

_INTRODUCTION = """\
# Canary questions

{rows} synthetic visual questions in the schema of MMMU, {per_kind} of each kind, drawn by
`python -m runner.canary.data` with seed {seed}. They belong to the checkpoint in `../weights`: its
accuracy on them is known, so that an inference stack can be checked without any download.
Licence: Apache-2.0.
"""


def questions(kind: str, rows: int = ROWS, seed: int = SEED) -> list[Question]:
    """The held-out questions of one kind."""
    rng = random.Random(f"validation {seed} {kind}")
    drawn = (ask(rng, kind) for _ in itertools.count())
    return list(itertools.islice((q for q in drawn if q.answer not in TOO_EASY), rows))


def to_row(question: Question, number: int) -> dict[str, Any]:
    """One question as a row in MMMU's schema, with images as PNG bytes."""
    images: dict[str, Any] = {f"image_{i + 1}": None for i in range(IMAGES)}
    for index, scene in enumerate(question.scenes):
        buffer = io.BytesIO()
        scene.image.save(buffer, "PNG", optimize=True)
        images[f"image_{index + 1}"] = {"bytes": buffer.getvalue(), "path": None}
    return {
        "id": f"validation_{question.kind}_{number}",
        "question": question.tagged,
        "options": str(list(question.options)),
        "explanation": "",
        **images,
        "img_type": "['Synthetic']",
        "answer": question.target,
        "topic_difficulty": DIFFICULTY.get(question.kind, "Medium"),
        "question_type": "multiple-choice" if question.options else "open",
        "subfield": question.kind,
    }


def from_row(row: dict[str, Any]) -> Question:
    """The question of a stored row, without the notes that training uses."""
    options = tuple(ast.literal_eval(row["options"]))
    stored = [row[f"image_{i + 1}"] for i in range(IMAGES)]
    images = [Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in stored if image]
    answer = options[LETTERS.index(row["answer"])] if options else row["answer"]
    text = row["question"].rpartition("> ")[2]
    return Question(row["subfield"], text, tuple(Scene(i) for i in images), options, answer)


def load(directory: Path = DATASET, kinds: Iterable[str] = KINDS) -> list[Question]:
    """All questions of a stored data set, by kind and in file order."""
    return [
        from_row(row)
        for kind in kinds
        for row in pq.read_table(directory / kind / FILE).to_pylist()
    ]


def write(out: Path, rows: int = ROWS, seed: int = SEED) -> None:
    """Write the parquet files and the README.md whose header lists them as configurations."""
    features = Features(
        {
            column: ImageFeature() if column.startswith("image_") else Value("string")
            for column in COLUMNS
        }
    )
    tables = {
        kind: Dataset.from_list(
            [to_row(q, i + 1) for i, q in enumerate(questions(kind, rows, seed))], features=features
        )
        for kind in KINDS
    }
    text = _INTRODUCTION.format(rows=rows * len(KINDS), per_kind=rows, seed=seed)
    write_tables(out, tables, text)


def write_tables(out: Path, tables: Mapping[str, Dataset], introduction: str) -> None:
    """Write a parquet file for each kind, and a README.md whose header lists them."""
    configurations = []
    for kind, table in tables.items():
        (out / kind).mkdir(parents=True, exist_ok=True)
        table.to_parquet(out / kind / FILE)
        files = [{"split": "validation", "path": f"{kind}/validation-*"}]
        configurations.append({"config_name": kind, "data_files": files})
    header = yaml.safe_dump({"license": "apache-2.0", "configs": configurations}, sort_keys=False)
    (out / "README.md").write_text(f"---\n{header}---\n{introduction}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    write(given.out, given.rows, given.seed)


if __name__ == "__main__":
    main()
