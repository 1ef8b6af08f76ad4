"""`pytest -p runner.pytest_plugin`: vllm-ascend's accuracy tests, on this runner.

Takes the four options of the lm-eval test, its files and those of the nightly tests as they are,
makes a test of each accuracy case, and collects nothing else: neither a test module, whose path may
stand on the command line, nor a conftest. docs/original.md says what is the same and what is not.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner import language
from runner.adopt import Adopted, LeftToAnother, adopt, cases
from runner.attempt import record_failure
from runner.config import loading
from runner.config.composed import Composed, command
from runner.config.overrides import quoted
from runner.errors import UserError
from runner.inputs.sources import MODELSCOPE
from runner.original_report import judged, write_report
from runner.plan import Plan
from runner.report import terminal
from runner.run import check, perform
from runner.rundir import RunDirectory, read_json
from runner.status import Status
from runner.supervision.supervisor import Supervisor
from runner.tracking.courier import Courier
from runner.tracking.tracked import TrackedRun
from runner.verdict import Verdict
from runner.visible import visible

OVERRIDES = "accuracy_overrides"
DEFAULT_CONFIG = "./tests/e2e/models/configs/Qwen3-8B.yaml"


class NotPassed(Exception):
    """The run has a verdict other than PASSED."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("accuracy", "accuracy of a model (ascend-accuracy-runner)")
    group.addoption("--config", default=DEFAULT_CONFIG, help="the model's YAML file")
    group.addoption("--config-list-file", help="a file that lists YAML files of the same directory")
    group.addoption("--tp-size", type=int, help="tensor parallel size, overrides the files")
    group.addoption(
        "--report-dir", default="./benchmarks/accuracy", help="directory for the reports"
    )
    parser.addini(OVERRIDES, "runner settings for every file: key=value …", type="args")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    early_config.known_args_namespace.noconftest = True  # the original's has the same options


def pytest_configure(config: pytest.Config) -> None:
    config.args = []
    config.pluginmanager.register(Accuracy(config), "accuracy")


class Accuracy:
    """The test session: its files, their shared engine, and the final summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.engine = Supervisor()
        self.courier = Courier()
        self.report_dir = Path(config.getoption("--report-dir"))
        self.output_dir = Path(f"outputs/{datetime.datetime.now():%Y-%m-%d/%H-%M-%S-%f}")
        self.lines: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Session):
            files = _files(collector.config)
            listed = enumerate((file, case) for file in files for case in cases(file))
            report.result = [self._item(collector, place, *each) for place, each in listed]
        return report

    def _item(
        self, session: pytest.Session, place: int, file: Path, case: str | None
    ) -> AccuracyItem:
        shown = os.path.relpath(file, session.config.rootpath)
        name = "accuracy" if case is None else f"accuracy[{case}]"
        item: AccuracyItem = AccuracyItem.from_parent(
            session,
            name=name,
            nodeid=f"{shown}::{name}",
            file=file,
            case=case,
            directory=self.output_dir / f"{place}-{file.stem}",
            accuracy=self,
        )
        return item

    def pytest_sessionfinish(self) -> None:
        self.engine.stop()
        self.courier.close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.lines:
            terminalreporter.section("accuracy")
            for line in self.lines:
                terminalreporter.write_line(line)


class AccuracyItem(pytest.Item):
    """A test item: one model file, or a case of a nightly file, run by the runner."""

    def __init__(
        self, *, file: Path, case: str | None, directory: Path, accuracy: Accuracy, **node: Any
    ) -> None:
        super().__init__(**node)
        self.file = file
        self.case = case
        self.run = RunDirectory(directory)
        self.accuracy = accuracy
        self.extra_keyword_matches.add(file.stem)

    def runtest(self) -> None:
        try:
            adopted = adopt(self.file, self.case)
        except LeftToAnother as reason:
            pytest.skip(str(reason))
        settings = settings_of(self.run.path, self.config.getoption("--tp-size"), os.environ)
        self._say([f"warning: {line}" for line in adopted.dropped])
        # The user's come last, and so have the last word.
        composed = adopted.compose([*settings, *self.config.getini(OVERRIDES)])
        config = loading.load(composed)
        language.use(config.lang)
        asked = Composed(OmegaConf.to_yaml(composed, resolve=True), command(sys.orig_argv))
        out = terminal.console()
        try:
            courier = self.accuracy.courier
            checked = check(config, asked, courier, out)
            perform(checked, self.run.path, self.accuracy.engine, courier, out)
        except UserError:
            raise
        except Exception as error:
            record_failure(self.run.path, error)
            raise
        finally:
            if self.run.verdict.exists() and self.run.outcome.exists():
                self._conclude(adopted)
        verdict: Verdict = read_json(self.run.verdict, Verdict)
        if verdict.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        if verdict.status is not Status.PASSED:
            raise NotPassed(f"{verdict.status.value}: {verdict.reason}\nrun: {self.run.path}")

    def _conclude(self, adopted: Adopted) -> None:
        """The original's report, and what --junitxml carries."""
        verdict: Verdict = read_json(self.run.verdict, Verdict)
        plan: Plan = read_json(self.run.plan, Plan)
        report = write_report(self.accuracy.report_dir, self.file, adopted, self.run)
        properties: dict[str, object] = {"verdict": verdict.status.value}
        for metric in judged(plan, verdict):
            name = f"{metric.task}/{metric.metric},{metric.filter}"
            properties[f"{name}/value"] = metric.value
            properties[f"{name}/stderr"] = metric.stderr
            properties[f"{name}/baseline"] = metric.baseline
            properties[f"{name}/verdict"] = metric.status.value
        properties |= {"report": report, "run_directory": self.run.path}
        if self.run.tracked.exists():
            properties["mlflow_run"] = read_json(self.run.tracked, TrackedRun).run_id
        self.user_properties += [(key, str(value)) for key, value in properties.items()]
        self._say([f"{verdict.status.value}: {verdict.reason}", f"report: {report}"])
        self._say([f"run: {self.run.path}"])

    def _say(self, lines: list[str]) -> None:
        case = "" if self.case is None else f"[{self.case}]"
        self.accuracy.lines += [visible(f"{self.file.name}{case}: {line}") for line in lines]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the message of a user error or verdict; a traceback for other errors."""
        if isinstance(excinfo.value, UserError | NotPassed):
            return visible(str(excinfo.value))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.file, None, self.file.name


def settings_of(directory: Path, tp_size: int | None, variables: Mapping[str, str]) -> list[str]:
    """Return the call's options and environment as runner settings for every file."""
    store = variables.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    settings = [f"output_dir={quoted(str(directory))}", f"tracking.uri={quoted(store)}"]
    if variables.get(MODELSCOPE, "").lower() == "true":
        settings.append("source.weights=modelscope")
    if tp_size is not None:
        settings.append(f"parallelism.tp={tp_size}")
    return settings


def _files(config: pytest.Config) -> Iterator[Path]:
    listed = config.getoption("--config-list-file")
    if listed is None:
        yield Path(config.getoption("--config")).resolve()
        return
    file = Path(listed).resolve()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise pytest.UsageError(f"--config-list-file={file}: {error.strerror}") from error
    for line in lines:
        if line.strip() and not line.startswith("#"):
            yield file.parent / line.strip()
