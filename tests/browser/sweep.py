"""A sweep as MLflow holds it; and one made up: tp 1, 2, 4 × two lengths, a fault at tp=4."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra

from runner import config as configuration
from runner import report
from runner.config import RunConfig
from runner.environment import Environment
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Facts, Plan, make_plan
from runner.platforms import Device
from runner.rundir import RunDirectory, read_json, write_atomic, write_json
from runner.sweep.links import share_view, view_key, view_tag
from runner.tracking import records, sender
from runner.tracking.tracked import TrackedRun
from runner.verdict import judge

SWEEP_ID = "2026-11-20/18-02-11"
STARTED_MS = 1_795_197_731_000
# tp, max_model_len, accuracy, seconds: upstream's issue lost 20 points at tp=4.
MADE = [
    (1, 4096, 0.5133, 2914.0),
    (1, 8192, 0.5156, 3007.0),
    (2, 4096, 0.5122, 1671.0),
    (2, 8192, 0.5144, 1702.0),
    (4, 4096, 0.3111, 1046.0),
    (4, 8192, 0.3089, 1083.0),
]
SAMPLES = 900
AXES = ("tp", "max_model_len")
METRIC = "mmmu_val/acc"


@dataclass(frozen=True)
class Point:
    """What MLflow's pages should show of a point."""

    run_id: str
    verdict: str
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class StoredSweep:
    """A sweep in an MLflow store, as the tests need it; `view` is its stored view's key."""

    uri: str
    id: str
    experiment_id: str
    points: tuple[Point, ...]
    axes: tuple[str, ...]
    metric: str
    figure_run: str
    figure: str
    view: str | None

    @property
    def run_ids(self) -> list[str]:
        return [point.run_id for point in self.points]


def stored(uri: str, sweep_id: str, axes: tuple[str, ...], metric: str) -> StoredSweep:
    """Read a sweep back from its store: `axes` are parameters, `metric` is what it measured."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(
        experiments, f"tags.sweep = '{sweep_id}'", order_by=["attributes.start_time ASC"]
    )
    points = [run for run in runs if set(axes) <= set(run.data.params)]
    pictures = (
        (run.info.run_id, path)
        for run in client.search_runs(experiments)
        for path in _artifacts(client, run.info.run_id)
        if path.endswith(".png")
    )
    figure_run, figure = next(pictures)
    experiment = client.get_experiment(points[0].info.experiment_id)
    return StoredSweep(
        uri=uri,
        id=sweep_id,
        experiment_id=experiment.experiment_id,
        points=tuple(
            Point(run.info.run_id, run.data.tags["verdict"], run.data.params, run.data.metrics)
            for run in points
        ),
        axes=axes,
        metric=metric,
        figure_run=figure_run,
        figure=figure,
        view=view_key(sweep_id) if view_tag(sweep_id) in experiment.tags else None,
    )


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from _artifacts(client, run_id, each.path)
        else:
            yield each.path


def make(directory: Path) -> StoredSweep:
    """A store with the made-up sweep, a run of another sweep, and a summary with a figure."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{directory / 'mlflow.db'}"
    start = STARTED_MS
    for number, (tp, length, accuracy, seconds) in enumerate(MADE):
        config = _config(directory / str(number), uri, tp, length)
        _track(config, accuracy, seconds, start)
        start += int(seconds * 1000) + 95_000
    other = _config(directory / "other", uri, 8, 2048)
    other.sweep.id = "another"
    made = _track(other, 0.51, 640.0, start)

    figure = directory / "accuracy.png"
    _draw(figure)
    client = MlflowClient(tracking_uri=uri)
    summary = client.create_run(made.experiment_id, run_name="summary of a sweep")
    client.log_artifact(summary.info.run_id, str(figure), "figures")
    client.set_terminated(summary.info.run_id)
    columns = ["tags.verdict", *(f"params.{axis}" for axis in AXES), f"metrics.{METRIC}"]
    share_view(client, made.experiment_id, SWEEP_ID, columns)
    return stored(uri, SWEEP_ID, AXES, METRIC)


def _config(directory: Path, uri: str, tp: int, length: int) -> RunConfig:
    configuration.register()
    overrides = [
        "model=qwen2_5_vl_7b",
        "engine=ascend",
        f"parallelism.tp={tp}",
        f"engine.max_model_len={length}",
        f"tracking.uri={uri}",
        f"sweep.id={SWEEP_ID}",
        f"output_dir={directory}",
    ]
    conf = str(configuration.config_directory())
    with hydra.initialize_config_dir(conf, version_base="1.3"):
        return configuration.load(hydra.compose("config", overrides))


def _track(config: RunConfig, accuracy: float, seconds: float, started_ms: int) -> TrackedRun:
    """What `python -m runner` leaves of a point, without the engine."""
    facts = Facts(
        versions={"vllm": "0.23.0", "vllm-ascend": "0.23.0rc1", "torch": "2.10.0"},
        device="Ascend 910B4",
        weights="3f" * 32,
        data="a7" * 32,
        environment={},
    )
    plan = make_plan(config, facts)
    environment = _environment(config.parallelism.tp)
    outcome = _outcome(plan, accuracy, seconds)
    verdict = judge(outcome, plan.evaluations, config.verdict)
    files = RunDirectory(Path(config.output_dir))
    files.claim()
    write_json(files.plan, plan)
    write_json(files.environment, environment)
    write_json(files.outcome, outcome)
    write_json(files.verdict, verdict)
    write_atomic(files.report, report.render(plan, environment, outcome, verdict))
    write_json(files.tracking, records.begin(config, plan, environment, started_ms))
    ended = json.dumps({"event": "outcome", "time": started_ms / 1000 + seconds})
    write_atomic(files.events, f"{ended}\n")
    sender.send_run(str(files.path))
    tracked: TrackedRun = read_json(files.tracked, TrackedRun)
    return tracked


def _outcome(plan: Plan, accuracy: float, seconds: float) -> Outcome:
    stderr = (accuracy * (1 - accuracy) / (SAMPLES - 1)) ** 0.5
    noise = random.Random(seconds)
    return Outcome(
        state=State.COMPLETED,
        tasks=(
            TaskOutcome(
                task="mmmu_val",
                metrics=(
                    MetricResult("mmmu_val", "acc", "none", accuracy, stderr, SAMPLES, True, True),
                ),
                expected=SAMPLES,
                evaluated=SAMPLES,
                seconds=seconds,
                output_tokens=SAMPLES * noise.randrange(180, 220),
            ),
        ),
        engine={
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "dtype": "bfloat16",
            "max_model_len": plan.engine_args["max_model_len"],
            "block_size": 128,
            "num_gpu_blocks": noise.randrange(5000, 6000),
            "cudagraph_mode": "FULL_AND_PIECEWISE",
        },
        timings={"start_engine_s": round(noise.uniform(71, 95), 1)},
    )


def _environment(devices: int) -> Environment:
    return Environment(
        packages={
            "vllm": "0.23.0",
            "vllm-ascend": "0.23.0rc1",
            "torch": "2.10.0",
            "torch-npu": "2.10.0.post4",
            "transformers": "5.5.4",
            "lm-eval": "0.4.13",
            "ascend-accuracy-runner": "0.1.0",
        },
        commits={},
        toolkit={"cann": "9.1.0", "driver": "25.0.rc1.1", "firmware": "7.7.0.1.231"},
        python="3.11.9",
        os="Linux",
        cpu="Kunpeng-920",
        cores=192,
        platform="ascend",
        devices=tuple(Device(n, "Ascend 910B4", 64 << 30) for n in range(devices)),
        project_commit=None,
        project_dirty=None,
        pip_freeze=(),
    )


def _draw(file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for length in sorted({length for _, length, _, _ in MADE}):
        chosen = [(tp, value) for tp, each, value, _ in MADE if each == length]
        axes.plot(*zip(*chosen, strict=True), marker="o", label=f"max_model_len={length}")
    axes.set(xlabel="tp", ylabel=METRIC)
    axes.legend()
    figure.savefig(file)
