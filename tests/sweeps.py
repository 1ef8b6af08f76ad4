"""Sweeps as a launcher leaves them, without an engine: written with the project's own writers."""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner.config.verdict import VerdictConfig
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Evaluation, Plan
from runner.rundir import RunDirectory, write_atomic, write_json
from runner.sweep.record import PointRecord, SweepRecord, point_directory, write
from runner.tracking.records import Begun
from runner.tracking.tracked import TrackedRun
from runner.verdict import judge
from tests.baselines import exact

ID = "2026-11-22/22-10-11"
TASK, LEAVES = "mini", ("mini_colour", "mini_shape")

# Of the columns that runner/lm/sample_table.py writes, those that a comparison reads.
SAMPLES = pa.schema(
    [
        ("task", pa.string()),
        ("doc_id", pa.int64()),
        ("filter", pa.string()),
        ("doc_hash", pa.string()),
        ("responses", pa.list_(pa.string())),
        ("choice_logprobs", pa.list_(pa.float64())),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("repeat", pa.int32()),
        ("seeds", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class Found:
    """What a point measured: the scores of its questions, dealt to the task's two leaves in turn.

    `task` is the group of the two. `responses` are A for a point and B for none, `documents` the
    questions' places, where they are not given; `choices` are log-likelihoods of scored choices.
    If each question was asked several times (`samples`), the scores and responses of a question
    follow each other. With a `seed`, the answers are sampled.
    """

    scores: Sequence[float]
    responses: Sequence[str] | None = None
    documents: Sequence[str] | None = None
    choices: Sequence[Sequence[float]] | None = None
    state: State = State.COMPLETED
    baseline: float | None = 0.8
    higher_is_better: bool = True
    seconds: float = 40.0
    engine_start: float = 60.0
    model: str = "tiny"
    task: str = TASK
    samples: int = 1
    seed: int | None = None

    @property
    def means(self) -> list[float]:
        """The score of each question."""
        places = range(0, len(self.scores), self.samples)
        return [statistics.fmean(self.scores[place : place + self.samples]) for place in places]


@dataclass(frozen=True)
class Asked:
    """A point: its overrides, and what became of it. Neither `found` nor `status`: not run."""

    overrides: tuple[str, ...]
    found: Found | None = None
    status: int | None = None
    refused: tuple[str, ...] = ()
    tracked: TrackedRun | None = field(default=None)


def grid(
    axes: Mapping[str, Sequence[str]], found: Callable[[dict[str, str]], Found | None]
) -> list[Asked]:
    """Every combination, the last axis the quickest, as Hydra's own sweeper numbers them."""
    points = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        overrides = tuple(f"{key}={value}" for key, value in chosen.items())
        result = found(chosen)
        points.append(Asked(overrides, result, None if result is None else 0))
    return points


def build(directory: Path, points: Sequence[Asked], sweep_id: str = ID) -> Path:
    """The sweep's directory, whole."""
    directory.mkdir(parents=True, exist_ok=True)
    records = []
    for number, point in enumerate(points):
        records.append(PointRecord(number, point.overrides, point.status, point.refused))
        if point.found is not None:
            run_directory(point_directory(directory, number), point.found)
        if point.tracked is not None:
            files = point_directory(directory, number)
            write_json(files.tracking, begun(number, point.tracked.uri))
            write_json(files.tracked, point.tracked)
    command = "python -m runner --multirun parallelism.tp=1,2"
    write(directory, SweepRecord(sweep_id, command, tuple(records), len(records), 1))
    return directory


def run_directory(files: RunDirectory, found: Found) -> None:
    """One run's files, judged by the project's own rule."""
    files.claim()
    baselines = {"acc": {"none": found.baseline}} if found.baseline is not None else {}
    evaluation = Evaluation(
        found.task, None, True, True, None, "auto", exact(baselines), samples=found.samples
    )
    outcome = Outcome(
        found.state,
        "" if found.state is State.COMPLETED else "it broke",
        (_task(found),) if found.scores else (),
        {},
        {
            "load_tasks_s": 5.0,
            "start_engine_s": found.engine_start,
            "evaluate_s": found.seconds,
        },
    )
    write_json(files.plan, _plan(found.model, evaluation))
    write_json(files.outcome, outcome)
    write_json(files.verdict, judge(outcome, (evaluation,), VerdictConfig()))
    write_atomic(files.report, "# the report\n")
    write_samples(files.samples, found)


def write_samples(file: Path, found: Found) -> None:
    responses = found.responses or ["A" if score else "B" for score in found.scores]
    documents = found.documents or [str(place) for place in range(len(found.means))]
    choices = found.choices or [()] * len(found.scores)
    rows = []
    for number, (score, response) in enumerate(zip(found.scores, responses, strict=True)):
        place, repeat = divmod(number, found.samples)
        rows.append(
            {
                "task": LEAVES[place % 2],
                "doc_id": place // 2,
                "filter": "none",
                "doc_hash": hashlib.sha256(documents[place].encode()).hexdigest(),
                "responses": [response],
                "choice_logprobs": list(choices[number]),
                "scores": [("acc", score)],
                "repeat": repeat,
                "seeds": [] if found.seed is None else [found.seed + 1000 * place + repeat],
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), file)


def _task(found: Found) -> TaskOutcome:
    n = len(found.means)
    value = statistics.fmean(found.means)
    known = n > 1 and math.isfinite(value)
    stderr = statistics.stdev(found.means) / n**0.5 if known else None
    binary = found.samples == 1 and all(score in (0, 1) for score in found.scores)
    metrics = tuple(
        MetricResult(name, "acc", "none", value, stderr, n, found.higher_is_better, binary)
        for name in (found.task, *LEAVES)
    )
    return TaskOutcome(
        found.task,
        metrics,
        n,
        n,
        seconds=found.seconds,
        output_tokens=12 * n * found.samples,
        drawn=n if found.seed is not None else 0,
        samples=found.samples,
    )


def begun(number: int, uri: str) -> Begun:
    """What a point says of itself before its engine starts."""
    return Begun(
        key=f"{number:032x}",
        uri=uri,
        experiment="mini",
        name="tiny TP1",
        timeout_s=30.0,
        started_ms=1000,
        user="me",
        host="here",
        sweep=ID,
        params={"tp": "1"},
        tags={},
    )


def _plan(model: str, evaluation: Evaluation) -> Plan:
    return Plan(
        model=model,
        backend="vllm",
        platform="cpu",
        hardware=None,
        baseline_source=None,
        engine_args={"pretrained": model, "tensor_parallel_size": 1, "dtype": "float32"},
        environment={},
        evaluations=(evaluation,),
        system_instruction=None,
        seed=1234,
        data_source="hf",
        data_dir=None,
        include_path=None,
        engine_fingerprint="0123456789abcdef",
        evaluation_fingerprint="fedcba9876543210",
    )
