"""The gates of model files: ours by name or path, and those of vllm-ascend's accuracy tests."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from runner.adopt import adopt, cases
from runner.adopt.nightly import is_nightly
from runner.audit.entry import Entry
from runner.audit.sizes import BINARY, questions
from runner.baseline import Baseline
from runner.config import loading, places
from runner.config.composition import compose
from runner.config.schema import AskConfig, RunConfig
from runner.config.task_files import SUFFIXES
from runner.config.usage import suggestion
from runner.config.verdict import BASELINE_RULES
from runner.errors import UserError
from runner.verdict.rule import settings

# A run's own, which an audit doesn't need: the machine need not be one that runs the model.
SETTINGS = ("engine=cpu", "tracking=off")


def gates(name: str, overrides: Sequence[str]) -> list[Entry]:
    """Return the gates of a model file, given by name or path.

    `overrides` are settings of a run, such as `verdict=not_worse`.

    Raises:
        LeftToAnother: for a file of vllm-ascend's that its accuracy test skips.
        UserError: if there is no such model or file, or `python -m runner` would reject it.
    """
    found = []
    for shown, composed in _composed(name, [*SETTINGS, *overrides]):
        config = loading.load(composed)
        entries = [entry for task in config.task.names for entry in _of_task(shown, task, config)]
        if not entries:
            raise UserError(f"{name}: has no baselines for {', '.join(config.task.names)}")
        found += entries
    return found


def _composed(name: str, overrides: list[str]) -> list[tuple[str, DictConfig]]:
    """The configuration of each model that the name or file stands for, and its name in the table.

    Only a nightly file of vllm-ascend's has several.
    """
    if not name.endswith(SUFFIXES):
        return [(name, _own(name, overrides))]
    file = Path(name).expanduser()
    content = _content(file)
    if "pretrained" in content:
        return [(file.stem, _own_file(file, overrides))]
    if "model_name" not in content and not is_nightly(content):
        raise UserError(
            f"{file}: not a model file: it has neither pretrained, as those of this runner, nor "
            "model_name or test_cases, as those of vllm-ascend's accuracy tests"
        )
    return [
        (f"{file.stem} {case}" if case else file.stem, adopt(file, case).compose(overrides))
        for case in cases(file)
    ]


def _own(name: str, overrides: list[str]) -> DictConfig:
    known = places.choices("model")
    if name not in known:
        near = suggestion(name, tuple(known))
        raise UserError(f"{name}: no such model in conf/model, and not a .yaml file.{near}")
    return compose([f"model={name}", *overrides])


def _own_file(file: Path, overrides: list[str]) -> DictConfig:
    if file.absolute().parent.name == "model":  # its directory may have task files as well
        return compose([f"model={file.stem}", *overrides], file.absolute().parent.parent)
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "model" / f"{file.stem}.yaml"
        copy.parent.mkdir()
        copy.write_bytes(file.read_bytes())
        return compose([f"model={file.stem}", *overrides], directory)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) else {}


def _of_task(shown: str, task: str, config: RunConfig) -> Iterator[Entry]:
    asked: AskConfig = config.model.ask.get(task, AskConfig())
    limit = asked.limit if config.task.limit is None else config.task.limit
    samples = config.task.samples or asked.samples or 1
    partial = limit != asked.limit and not config.verdict.allow_partial
    for metric, filters in config.model.baselines.get(task, {}).items():
        for name, known in filters.items():
            how = settings(config.verdict, task, metric, name)
            rule, tolerance = how.rule, how.rtol if how.rule == "isclose" else how.margin
            if rule == "isclose" and known.tolerance is not None:
                rule, tolerance = "absolute", known.tolerance
            number = questions(task, limit)
            if number is None and limit == asked.limit:  # that of the baseline
                number = known.n
            yield Entry(
                file=shown,
                metric=f"{task} {metric},{name}".removesuffix(",none"),
                rule=rule,
                baseline=known.value,
                tolerance=tolerance,
                questions=number,
                samples=samples,
                measured=_measured(known),
                unaudited=_unaudited(metric, known, how.rule, number, partial, samples),
            )


def _measured(known: Baseline) -> float | None:
    """Number of answers behind a baseline: what it says, or what its standard error amounts to."""
    if known.n is not None:
        return known.n * known.samples
    if known.stderr and 0 < known.value < 1:
        return known.value * (1 - known.value) / known.stderr**2
    return None


def _unaudited(
    metric: str, known: Baseline, rule: str, number: int | None, partial: bool, samples: int
) -> str:
    """The reason why the gate can't be audited; empty if it can."""
    if rule not in BASELINE_RULES:
        return f"{rule} compares with a reference run, not with a baseline"
    if metric not in BINARY or not 0 <= known.value <= 1 or not math.isfinite(known.value):
        return "not known to be a metric whose samples score 0 or 1"
    if rule == "not_worse" and samples > 1:
        return "not_worse with several samples per question can't be computed exactly"
    if rule == "not_worse" and known.error:
        return "not_worse with a baseline that states its error can't be computed exactly"
    if partial:
        return "a run with another task.limit than the baseline's can't pass"
    if number is None:
        return "n unknown; set n in the baseline: {value: …, n: …}"
    return ""
