"""The end of a sweep: screen, files, pictures, MLflow."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from runner import sync
from runner.present.plots import COLOURS, PALETTE
from runner.rundir import write_json
from runner.sweep.finish import finish
from runner.sweep.store import SUMMARY
from runner.tracking.links import view_name
from runner.tracking.tracked import TrackedRun
from runner.tracking.views import view_tag
from tests.html import Page
from tests.sweeps import ID, Asked, Found, begun, build, grid

TP, LENGTH = "parallelism.tp", "engine.max_model_len"
HOSTILE = ["=cmd|' /C calc'!A0", "$x$ <b>|pipe|</b> [a](b) `tick`", "模型 🦙"]


def screen(width: int = 100) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    out = Console(
        file=text, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True
    )
    return out, text


def right(count: int) -> list[float]:
    return [1.0] * count + [0.0] * (100 - count)


def square(**more: str) -> list[Asked]:
    axes = {TP: ["1", "2"], LENGTH: ["512", "1024"]}
    return grid(axes, lambda chosen: Found(right(80 if chosen[TP] == "1" else 55)))


def test_what_is_on_the_screen(tmp_path: Path) -> None:
    out, text = screen()
    finish(build(tmp_path / "sweep", square()), out)
    shown = text.getvalue()
    assert shown.startswith(
        "\ntp changes mini acc: −25.0 points (2 vs 1)\n4 points: 2 PASSED, 2 FAILED\n"
    )
    table = [line for line in shown.splitlines() if "± " in line]
    assert [line.split()[:4] for line in table] == [
        ["0", "tp=1", "max_model_len=512", "PASSED"],
        ["1", "tp=1", "max_model_len=1024", "PASSED"],
        ["2", "tp=2", "max_model_len=512", "FAILED"],
        ["3", "tp=2", "max_model_len=1024", "FAILED"],
    ]
    assert "0.800 ± 0.040" in table[0] and "-0.250" in table[2]
    assert "40 s" in table[0] and "60 s" in table[0]
    assert all(len(line) <= 100 for line in table)
    assert "tp: 2 vs 1 (2 pairs of points): −25.0 points" in shown
    assert "max_model_len: 1024 vs 512 (2 pairs of points): the same 100 answers" in shown
    assert "4 engine starts, 1 saved" in shown
    assert "MLflow" not in shown


def test_files(tmp_path: Path) -> None:
    sweep = build(tmp_path / "sweep", square())
    finish(sweep, screen()[0])
    rows = list(csv.DictReader((sweep / "sweep.csv").open(encoding="utf-8")))
    assert len(rows) == 4 * 3  # the group and its two leaves
    first = rows[0]
    assert (first[TP], first[LENGTH], first["verdict"], first["compared"]) == (
        "1", "512", "PASSED", "True",
    )  # fmt: skip
    assert float(first["value"]) == 0.8
    assert float(first["output_tokens_per_s"]) == 30
    import pyarrow.parquet as pq

    table = pq.read_table(sweep / "sweep.parquet")
    assert table.column_names == list(first)
    assert table["value"].to_pylist() == [float(row["value"]) for row in rows]
    page = (sweep / "sweep.md").read_text(encoding="utf-8")
    assert page.startswith("# tp changes mini acc: −25.0 points (2 vs 1)\n")
    assert f"\nSweep {ID}, 4 points: 2 PASSED, 2 FAILED.\n" in page
    assert "| −33.6 points to −16.4 points | 0 | 25 | 25 |" in page
    drawn = sorted(file.name for file in (sweep / "figures").iterdir())
    assert drawn == [
        "mini_acc.by_max_model_len.png",
        "mini_acc.by_tp.png",
        "mini_acc.tp_x_max_model_len.png",
        "time_and_throughput.png",
    ]
    for name in drawn:
        assert f"](figures/{name})" in page
        with Image.open(sweep / "figures" / name) as picture:
            picture.verify()


def test_the_pages_figures_follow_its_colours(tmp_path: Path) -> None:
    """Drawn as SVG: no bitmap, which dark mode would leave white, and no colour of the page."""
    sweep = build(tmp_path / "sweep", square())
    finish(sweep, screen()[0])
    page = (sweep / "sweep.html").read_text(encoding="utf-8")
    assert Page(page).open == []
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 4 and "data:image" not in page
    own = set(re.findall("#[0-9a-f]{6}", " ".join(figures)))
    assert own <= set(PALETTE) and not own & set(COLOURS.values())
    assert all("var(--ink)" in each and 'aria-label="' in each for each in figures)
    assert "<figcaption>100 questions per point. Bars: 95 % interval" in page


@pytest.mark.parametrize("name", ["../../escaped", "long" * 75, "two\nlines", "<script>x</script>"])
def test_a_tasks_name_leaves_neither_the_directory_nor_its_cell(tmp_path: Path, name: str) -> None:
    points = grid({TP: ["1", "2"]}, lambda chosen: Found(right(80), task=name))
    sweep = build(tmp_path / "sweep", points)
    finish(sweep, screen()[0])
    assert [each.name for each in tmp_path.iterdir()] == ["sweep"]
    assert len(list((sweep / "figures").glob("*.by_tp.png"))) == 1
    page = (sweep / "sweep.md").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert not any(line.startswith("lines") for line in page.splitlines())


def test_done_again_it_replaces_what_it_left(tmp_path: Path) -> None:
    """A sweep that was half done, then resumed."""
    half = [
        each if each.overrides[0].endswith("=1") else Asked(each.overrides) for each in square()
    ]
    sweep = build(tmp_path / "sweep", half)
    (sweep / "figures").mkdir()
    (sweep / "figures" / "of_before.png").write_bytes(b"")
    finish(sweep, screen()[0])
    assert "2 PASSED, 2 NOT RUN" in (sweep / "sweep.md").read_text(encoding="utf-8")
    for number in range(4):
        (sweep / str(number) / "config.yaml").unlink(missing_ok=True)
    build(sweep, square())
    finish(sweep, screen()[0])
    assert "2 PASSED, 2 FAILED" in (sweep / "sweep.md").read_text(encoding="utf-8")
    assert not (sweep / "figures" / "of_before.png").exists()


def test_nothing_has_run(tmp_path: Path) -> None:
    points = [Asked((f"{TP}={tp}",), None, 1, ("no device",)) for tp in (1, 2)]
    sweep = build(tmp_path / "sweep", points)
    out, text = screen()
    finish(sweep, out)
    assert "REFUSED 2 points (0, 1): no device" in text.getvalue()
    assert not list((sweep / "figures").iterdir())
    assert len((sweep / "sweep.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_samples_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = build(tmp_path / "sweep", square())
    (sweep / "3" / "samples.parquet").write_bytes(b"PAR1 cut short")
    out, text = screen()
    finish(sweep, out)
    assert "3/samples.parquet: cannot be read" in capsys.readouterr().err
    assert "tp: 2 vs 1 (1 of 2 pairs of points): −25.0 points" in text.getvalue()


def test_a_value_that_is_no_number(tmp_path: Path) -> None:
    points = grid({TP: ["1", "2"]}, lambda c: Found([math.nan] * 4 if c[TP] == "2" else right(80)))
    sweep = build(tmp_path / "sweep", points)
    out, text = screen()
    finish(sweep, out)
    assert "tp: nothing to compare" in text.getvalue()


def test_names_break_nothing(tmp_path: Path) -> None:
    points = grid(
        {"model.pretrained": HOSTILE, TP: ["1", "2"]},
        lambda chosen: Found(right(80), model=chosen["model.pretrained"]),
    )
    sweep = build(tmp_path / "sweep", points)
    finish(sweep, screen()[0])
    page = (sweep / "sweep.md").read_text(encoding="utf-8")
    assert "<b>" not in page
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    plain = [row.replace("\\|", "") for row in rows]
    assert len({row.count("|") for row in plain}) == 1
    cells = list(csv.DictReader((sweep / "sweep.csv").open(encoding="utf-8")))
    assert {row["model"] for row in cells} == {f"'{HOSTILE[0]}", *HOSTILE[1:]}


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_few_and_many_points(tmp_path: Path, count: int) -> None:
    repeats = {"sweep.repeat": [str(each) for each in range(count)]}
    sweep = build(tmp_path / "sweep", grid(repeats, lambda chosen: Found(right(80))))
    out, text = screen()
    finish(sweep, out)
    said = (
        "repeat: 1 vs 0: the same 100 answers"
        if count == 2
        else "repeat: the same 100 answers at all 100 values"
    )
    assert said in text.getvalue()
    for file in (sweep / "figures").iterdir():
        with Image.open(file) as picture:
            assert max(picture.size) <= 4000


def test_more_series_than_colours(tmp_path: Path) -> None:
    axes = {TP: ["1", "2"], LENGTH: [str(512 * n) for n in range(1, 11)]}
    sweep = build(tmp_path / "sweep", grid(axes, lambda chosen: Found(right(80))))
    finish(sweep, screen()[0])
    assert (sweep / "figures" / "mini_acc.by_tp.png").exists()


def test_tasks_swept_over(tmp_path: Path) -> None:
    """Each has its own metric: that is no axis of either, and one table has both."""
    axes = {"task": ["first", "second"], TP: ["1", "2"]}
    points = grid(axes, lambda chosen: Found(right(80), task=chosen["task"]))
    sweep = build(tmp_path / "sweep", points)
    out, text = screen()
    finish(sweep, out)
    shown = text.getvalue()
    assert "tp, first acc: 2 vs 1: the same 100 answers" in shown
    assert "tp, second acc: 2 vs 1: the same 100 answers" in shown
    assert "nothing to compare" not in shown
    assert sorted(file.name for file in (sweep / "figures").iterdir()) == [
        "first_acc.by_tp.png",
        "second_acc.by_tp.png",
        "time_and_throughput.png",
    ]


def test_importing_it_is_light() -> None:
    heavy = ("numpy", "scipy", "matplotlib", "pandas", "pyarrow", "mlflow", "torch", "vllm")
    code = f"import sys, runner.sweep.finish; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# MLflow


def tracked_square(uri: str) -> list[Asked]:
    """The square's points, each with a run in the store."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("mini")
    experiment = found.experiment_id if found else client.create_experiment("mini")
    points = []
    for each in square():
        run = client.create_run(experiment, tags={"sweep": ID})
        client.log_param(run.info.run_id, "tp", each.overrides[0].partition("=")[2])
        client.set_terminated(run.info.run_id)
        tracked = TrackedRun(uri, "mini", experiment, run.info.run_id)
        points.append(Asked(each.overrides, each.found, each.status, tracked=tracked))
    return points


@pytest.fixture
def store(store_file: Path) -> str:
    return f"sqlite:///{store_file}"


@pytest.mark.slow
def test_one_summary_run(tmp_path: Path, store: str) -> None:
    import mlflow

    points = tracked_square(store)
    sweep = build(tmp_path / "sweep", points)
    out, text = screen()
    finish(sweep, out)
    finish(sweep, out)  # brings it up to date
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = points[0].tracked.experiment_id if points[0].tracked else ""
    (summary,) = client.search_runs([experiment], f"tags.{SUMMARY} = '{ID}'")
    assert summary.info.run_name == f"FAILED sweep {ID} (4 points: 2 PASSED, 2 FAILED)"
    assert summary.info.status == summary.data.tags["verdict"] == "FAILED"
    numbers = summary.data.metrics
    assert (numbers["points"], numbers["points_passed"], numbers["points_failed"]) == (4, 2, 2)
    assert numbers["mini/acc_lowest"] < numbers["mini/acc_highest"]
    assert "mini acc" in summary.data.tags["answer"]
    note = summary.data.tags["mlflow.note.content"]
    assert "2 PASSED, 2 FAILED" in note
    assert "report.md)" not in note and "![" not in note  # no file of ours is below that page
    assert len(client.search_runs([experiment], f"tags.sweep = '{ID}'")) == 4
    kept = {each.path for each in client.list_artifacts(summary.info.run_id)}
    assert kept == {"sweep.html", "sweep.md", "sweep.csv", "sweep.parquet", "sweep.json", "figures"}
    figures = client.list_artifacts(summary.info.run_id, "figures")
    assert "figures/mini_acc.by_tp.png" in {each.path for each in figures}
    shown = text.getvalue()
    assert "http://127.0.0.1:5000/#/experiments/" in shown
    assert "compareRunsMode=CHART" in shown and "#/compare-runs?" in shown
    assert f"mlflow ui --backend-store-uri {store}" in shown
    page = (sweep / "sweep.md").read_text(encoding="utf-8")
    assert "[run table](http://127.0.0.1:5000/" in page


@pytest.mark.slow
def test_the_view_has_the_columns_that_matter(tmp_path: Path, store: str) -> None:
    import mlflow

    points = tracked_square(store)
    finish(build(tmp_path / "sweep", points), screen()[0])
    assert points[0].tracked is not None
    client = mlflow.MlflowClient(tracking_uri=store)
    tags = client.get_experiment(points[0].tracked.experiment_id).tags
    columns = json.loads(tags[view_tag(view_name(ID))])["selectedColumns"]
    assert columns[:5] == [
        "tags.`verdict`",
        "params.`tp`",
        "metrics.`mini/acc`",
        "metrics.`mini/acc_stderr`",
        "metrics.`mini/acc_difference`",
    ]


@pytest.mark.slow
def test_a_store_that_fails_costs_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = TrackedRun(f"sqlite:///{tmp_path}/no/such/place.db", "mini", "1", "a" * 32)
    points = [Asked(e.overrides, e.found, e.status, tracked=lost) for e in square()]
    sweep = build(tmp_path / "sweep", points)
    out, text = screen()
    finish(sweep, out)
    assert "warning: not uploaded to MLflow" in capsys.readouterr().err
    assert (sweep / "sweep.md").exists() and (sweep / "figures").exists()
    assert "tags.sweep" in text.getvalue()  # the links need no store to be right


@pytest.mark.slow
def test_points_that_did_not_arrive_come_with_the_comparison(
    tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also an attempt that another replaced; and `python -m runner.sync` finds nothing to do."""
    import mlflow

    sweep = build(tmp_path / "sweep", square())
    for number in range(4):
        write_json(sweep / str(number) / "tracking.json", begun(number, store))
    shutil.copytree(sweep / "3", sweep / "earlier" / "3")
    write_json(sweep / "earlier" / "3" / "tracking.json", begun(9, store))
    finish(sweep, screen()[0])
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("mini").experiment_id
    counted = client.search_runs([experiment], f"tags.sweep = '{ID}'")
    assert sorted(run.data.tags["verdict"] for run in counted) == ["FAILED"] * 2 + ["PASSED"] * 2
    assert len(client.search_runs([experiment], f"tags.sweep_earlier = '{ID}'")) == 1
    assert len(client.search_runs([experiment], f"tags.{SUMMARY} = '{ID}'")) == 1
    page = (sweep / "sweep.md").read_text(encoding="utf-8")
    assert all(run.info.run_id in page for run in counted)
    assert sync.main([str(sweep)]) == 0
    assert capsys.readouterr().out == "0 uploaded, 0 pending\n"
    (sweep / "mlflow.json").unlink()  # the comparison was cut short
    assert sync.main([str(sweep)]) == 0
    assert "report: " in capsys.readouterr().out
    assert len(client.search_runs([experiment], f"tags.{SUMMARY} = '{ID}'")) == 1
