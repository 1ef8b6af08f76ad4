"""A sweep in another language: nothing of its pages, screen and figures stays English."""

from __future__ import annotations

import io
import random
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from benchmarks.sweep_packing import sleeper
from runner import language
from runner.config.composed import Composed
from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.outcome import State
from runner.present.plots import styled, svg
from runner.rundir import RunDirectory, read_json, write_json
from runner.status import Status
from runner.sweep import figures, local, markdown, ray_lines, ray_run, record, screen, store
from runner.sweep.accuracy import accuracy
from runner.sweep.answers import read_answers
from runner.sweep.comparison import Comparison, compare
from runner.sweep.family import failed_lines, headline
from runner.sweep.figures import draw
from runner.sweep.finish import _show_links, finish
from runner.sweep.heatmap import heat_map
from runner.sweep.launcher import _said
from runner.sweep.points import Point
from runner.sweep.ray import _announce
from runner.sweep.ray_cluster import Cluster as RayCluster
from runner.sweep.ray_task import EngineRecord
from runner.sweep.record import PointRecord, SweepRecord, point_directory, point_title
from runner.sweep.releases import releases
from runner.sweep.schedule import Job, Need, Node
from runner.sweep.summary import Sweep, read_sweep
from runner.sweep.sweep_page import render
from runner.tracking.links import Links
from runner.verdict import MetricVerdict, Verdict
from tests.pseudo import speak_pseudo, untranslated, untranslated_in_page
from tests.sweeps import Asked, Found, build, grid

TP, LENGTH, PYTHON = "parallelism.tp", "engine.max_model_len", "engine.python"
LINKS = Links("http://there/table", "http://there/chart", "http://there/compare")
ADDRESS = re.compile(r"\]\([^)]*\)|http://\S+|```.*?```", re.DOTALL)
# Names of tasks, metrics, axes and files, and the statuses in cells of figures.
DATA = {
    "mini",
    "first",
    "acc",
    "tp",
    "max",
    "model",
    "len",
    "repeat",
    "seed",
    "limit",
    "task",
    "md",
}
DATA |= {"MLflow", "Holm", "failed", "error", "not", "run", "interrupted", "it", "broke"}
# Words of runner/present and runner/verdict.
DATA |= {"value", "interval", "baseline", "tolerated", "to", "from", "up"}


@pytest.fixture(autouse=True)
def pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_pseudo(monkeypatch)


def right(count: int, of: int = 100) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


def sampled(seed: int, samples: int) -> Found:
    rng = random.Random(seed)
    scores = [float(rng.random() < 0.5) for _ in range(100 * samples)]
    responses = [f"{'A' if score else 'B'} {rng.random()}" for score in scores]
    return Found(scores, responses=responses, samples=samples, seed=100_000 * seed)


def drifting(repeat: str) -> Found:
    found = sampled(1, 4)
    assert found.responses is not None
    return replace(found, responses=[f"{text} {repeat}" for text in found.responses])


def by_tp(scores: dict[str, Found | None]) -> list[Asked]:
    return grid({TP: list(scores)}, lambda chosen: scores[chosen[TP]])


SQUARE = grid(
    {TP: ["1", "2"], LENGTH: ["512", "1024"]},
    lambda chosen: Found(right(80 if chosen[TP] == "1" else 55)),
)
SWEEPS = {
    "a significant effect": SQUARE,
    "no effect": by_tp({"1": Found(right(80)), "2": Found(right(82)), "4": Found(right(80))}),
    "the same answers": by_tp({each: Found(right(80)) for each in "124"}),
    "a value without a point": by_tp({"1": Found(right(80)), "2": Found(right(80)), "4": None}),
    "other texts": by_tp(
        {each: Found(right(80), responses=["A"] * 99 + [each]) for each in ("1", "2")}
    ),
    "other numbers of questions": grid(
        {"task.limit": ["100", "60", "40", "20"]},
        lambda chosen: Found(right(80)[: int(chosen["task.limit"])]),
    ),
    "questions without a pair": grid(
        {TP: ["1", "2"], "task.limit": ["60", "100"]},
        lambda chosen: Found(right(55 if chosen[TP] == "2" else 80)[: int(chosen["task.limit"])]),
    ),
    "a missing pair": grid(
        {TP: ["1", "2"], LENGTH: ["512", "1024"]},
        lambda chosen: None if chosen == {TP: "2", LENGTH: "512"} else Found(right(80)),
    ),
    "equal seeds": grid({"sweep.repeat": ["0", "1", "2"]}, lambda _: sampled(1, 4)),
    "equal seeds, other texts": grid(
        {"sweep.repeat": ["0", "1"]}, lambda chosen: drifting(chosen["sweep.repeat"])
    ),
    "other seeds": grid(
        {"task.seed": ["1", "2"]}, lambda chosen: sampled(int(chosen["task.seed"]), 4)
    ),
    "too few questions": by_tp({"1": Found([1.0]), "2": Found([0.0])}),
    "no question in common": by_tp(
        {each: Found([1.0, 0.0], documents=[each + "0", each + "1"]) for each in ("1", "2")}
    ),
    "points that are no pair": [
        Asked((f"{TP}=1", f"{LENGTH}=512"), Found(right(80)), 0),
        Asked((f"{TP}=2",), Found(right(80)), 0),
        Asked((f"{TP}=2", f"{LENGTH}=1024"), Found(right(80)), 0),
    ],
    "points without a verdict": [
        Asked((f"{TP}=1",), Found(right(80)), 0),
        Asked((f"{TP}=2",), Found([], state=State.ERROR), 2),
        Asked((f"{TP}=3",), None, 130),
        Asked((f"{TP}=4",), None, 2),
        Asked((f"{TP}=5",)),
    ],
    "refused": [Asked((f"{TP}={number}",), None, 1, ("=8",)) for number in range(20)],
    "nothing measured": by_tp({"1": None, "2": None}),
    "one point": [Asked((f"{TP}=1",), Found(right(80)), 0)],
    "several tasks": grid(
        {"task": ["mini", "first"], TP: ["1", "2"]},
        lambda chosen: Found(right(80), task=chosen["task"]),
    ),
    "many series": grid(
        {LENGTH: [str(number) for number in range(9)], TP: ["1", "2"]},
        lambda chosen: Found(right(80 - 4 * int(chosen[LENGTH]))),
    ),
    "three axes without a baseline": grid(
        {LENGTH: ["1", "2"], TP: ["1", "2"], "engine.seed": ["1", "2"]},
        lambda chosen: Found(right(80 - 5 * int(chosen[LENGTH])), baseline=None),
    ),
    "other baselines": by_tp(
        {"1": Found(right(70)), "2": Found(right(70), baseline=0.7), "4": None}
    ),
}


def compared(directory: Path, points: list[Asked]) -> tuple[Sweep, tuple[Comparison, ...]]:
    sweep = read_sweep(build(directory, points))
    found = {
        metric: {p.number: a for p in sweep.points if (a := read_answers(p, (metric,)).get(metric))}
        for metric in sweep.compared
    }
    return sweep, compare(sweep, found)


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=300, highlight=False, markup=False, soft_wrap=True), text


@pytest.mark.parametrize("name", SWEEPS)
def test_screen_and_pages(tmp_path: Path, name: str) -> None:
    sweep, comparisons = compared(tmp_path, SWEEPS[name])
    out, text = console()
    screen.show(out, sweep, comparisons)
    assert untranslated(text.getvalue()) <= DATA
    page = markdown.page(sweep, comparisons, [LINKS])
    assert untranslated(unescape(ADDRESS.sub(" ", page))) <= DATA
    shown = render(sweep, comparisons, [LINKS], ())
    assert '<html lang="zh">' in shown
    assert untranslated_in_page(shown.replace(str(tmp_path), "")) <= DATA


@pytest.mark.parametrize(
    "name", ["points without a verdict", "three axes without a baseline", "other baselines"]
)
def test_figures(tmp_path: Path, name: str) -> None:
    sweep, comparisons = compared(tmp_path, SWEEPS[name])
    drawn = draw(sweep)
    assert drawn
    told = {figure.name: figure.told for figure in drawn}
    page = markdown.page(sweep, comparisons, (), told)
    assert untranslated(unescape(ADDRESS.sub(" ", page))) <= DATA
    shown = render(sweep, comparisons, (), drawn)
    assert untranslated_in_page(shown.replace(str(tmp_path), "")) <= DATA


@styled()
def test_labels_of_a_plot(tmp_path: Path) -> None:
    sweep, _ = compared(tmp_path, SWEEPS["many series"])
    (metric,) = sweep.compared
    for figure in (accuracy(sweep, metric, sweep.axes[0]), accuracy(sweep, metric, sweep.axes[1])):
        assert untranslated_in_page(svg(figure, "")) <= DATA
    assert untranslated_in_page(svg(heat_map(sweep, metric, *sweep.axes), "")) <= DATA


def test_a_png_is_in_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = []

    def png(figure: object) -> bytes:
        spoken.append(language.language())
        return b""

    monkeypatch.setattr(figures, "png", png)
    sweep, _ = compared(tmp_path, SWEEPS["no effect"])
    assert draw(sweep)
    assert set(spoken) == {"en"} and language.language() == "zh"


@pytest.mark.parametrize("significant", [0, 1, 2])
@pytest.mark.parametrize("failed", [1, 3])
def test_failed_points(tmp_path: Path, failed: int, significant: int) -> None:
    swept = build(tmp_path, by_tp({str(tp): Found(right(60)) for tp in range(4)}))
    for number in range(4):
        files = point_directory(swept, number)
        verdict: Verdict = read_json(files.verdict, Verdict)
        p = 1e-6 if number < significant else 0.04 if number < failed else 0.5
        status = Status.FAILED if number < failed else Status.PASSED
        metrics = tuple(with_p(each, p, status) for each in verdict.metrics)
        write_json(files.verdict, replace(verdict, metrics=metrics))
    sweep = read_sweep(swept)
    assert headline(sweep)
    for line in (headline(sweep), *failed_lines(sweep)):
        assert untranslated(line) == set()


def with_p(metric: MetricVerdict, p: float, status: Status) -> MetricVerdict:
    return replace(metric, p=p, status=status) if metric.judged else metric


def test_versions(tmp_path: Path, environment: Environment) -> None:
    points = grid({PYTHON: ["/envs/a/bin/python", "/envs/b/bin/python"]}, lambda _: None)
    sweep = read_sweep(build(tmp_path, points))
    for point, packages in zip(sweep.points, ({}, {"torch": "2.9.0"}), strict=True):
        point.files.path.mkdir()
        write_json(point.files.environment, replace(environment, packages=packages))
    assert len(lines := releases(sweep)) == 2
    assert untranslated(" ".join(lines)) == set()


def test_the_end_of_a_sweep(tmp_path: Path) -> None:
    sweep = build(tmp_path / "sweep", SQUARE)
    out, text = console()
    finish(sweep, out)
    place = store.Place("sqlite:///mlflow.db", "mini", "1", ("a",))
    for several, links in ((False, LINKS), (True, Links(*["x" * 2000] * 3))):
        _show_links(out, place, links, several=several)
    said = text.getvalue().replace(str(sweep), "")
    words = untranslated(ADDRESS.sub(" ", said))
    assert words <= DATA | {"sweep", "html", "csv", "parquet"}
    assert store.run_name(read_sweep(sweep)) == (
        "FAILED sweep 2026-11-22/22-10-11 (4 points: 2 PASSED, 2 FAILED)"
    )


def test_lines_of_launchers() -> None:
    out, text = console()
    local._announce(out, points=9, refused=1, done=2, left=6, engines=2)
    titles = [point_title(3, overrides, {TP}) for overrides in ((), (f"{TP}=2",))]
    jobs = [ray_lines.started(sleeper(0, 1, 1.0, points), "8") for points in (1, 2)]
    jobs += [ray_lines.stopping(count) for count in (1, 2)]
    plans = [_said(0, (), ()), _said(1, (), ()), _said(0, (), ("=8",))]
    said = [text.getvalue(), *titles, *jobs, *(reason for _, reason in plans)]
    assert untranslated(" ".join(said)) <= {"tp"}


class Cluster:
    """Two nodes that nobody started."""

    def nodes(self) -> list[Node]:
        return [Node("a", "host-a", {"NPU": 8.0}), Node("b", "host-b", {"NPU": 4.0})]

    def changed(self) -> None: ...


@pytest.mark.slow
def test_lines_of_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.exceptions import WorkerCrashedError

    out, text = console()
    cluster = cast(RayCluster, Cluster())
    _announce(out, cluster, points=3, engines=2)
    record.write(tmp_path, SweepRecord("s", "", ()))
    run = ray_run.Run(tmp_path, cluster, lambda *_: None, out, retries=1)
    job = Job((Point(0, (), RunConfig(), Composed("")),), Need("NPU", 1))
    told = EngineRecord((0,), "host-a", "a", 1, "NPU 0", 0.0)

    def crash(_: object) -> None:
        raise WorkerCrashedError

    monkeypatch.setattr(ray, "get", crash)
    for _ in range(2):  # retried once, then given up
        running = ray_run.Running(job, cluster.nodes()[0], None, tmp_path / "x", 0.0, told)
        run._settled(running)
    run._say(job.points[0], PointRecord(0, (), 2), running)
    run._say(replace(job.points[0], number=1), PointRecord(1, (), 2), running)
    verdict: Verdict = read_json(RunDirectory(tmp_path / "0").verdict, Verdict)
    words = untranslated(text.getvalue() + verdict.reason)
    assert words <= {
        "host",
        "The",
        "worker",
        "died",
        "unexpectedly",
        "while",
        "executing",
        "this",
    } | {"task", "WorkerCrashedError"}
