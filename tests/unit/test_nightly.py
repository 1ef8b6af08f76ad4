"""The jobs in docs/nightly are whole files, and the commands in them compose."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.schema import RunConfig

PROJECT = Path(__file__).parents[2]
JOBS = PROJECT / "docs" / "nightly"


def github() -> list[list[str]]:
    (job,) = yaml.safe_load((JOBS / "github.yml").read_text())["jobs"].values()
    lines = [step["run"] for step in job["steps"] if "run" in step]
    return commands(lines, "${{ matrix.model }}", job["strategy"]["matrix"]["model"])


def gitlab() -> list[list[str]]:
    job = yaml.safe_load((JOBS / "gitlab.yml").read_text())["accuracy"]
    return commands(job["script"], "$MODEL", job["parallel"]["matrix"][0]["MODEL"])


def jenkins() -> list[list[str]]:
    found = re.findall(r"script: '([^']*)'", (JOBS / "Jenkinsfile").read_text())
    return commands(found, "", [""])


def volcano() -> list[list[str]]:
    job = yaml.safe_load((JOBS / "volcano-job.yaml").read_text())
    (task,) = job["spec"]["tasks"]
    (container,) = task["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return [arguments]


def commands(lines: list[str], variable: str, models: list[str]) -> list[list[str]]:
    """The settings of each `python3 -m runner` among the lines, for each model."""
    runs = [line.partition("-m runner ")[2] for line in lines if "-m runner " in line]
    return [run.replace(variable, each).replace('"', "").split() for run in runs for each in models]


@pytest.mark.parametrize(("job", "number"), [(github, 2), (gitlab, 2), (jenkins, 1), (volcano, 1)])
def test_every_command_composes(
    job: Callable[[], list[list[str]]], number: int, compose: Callable[..., RunConfig]
) -> None:
    found = job()
    assert len(found) == number
    for settings in found:
        assert compose(*settings).model.name


def test_every_job_asks_the_exit_status_that_means_no_verdict() -> None:
    gitlab_job: dict[str, Any] = yaml.safe_load((JOBS / "gitlab.yml").read_text())["accuracy"]
    assert gitlab_job["allow_failure"]["exit_codes"] == [4]
    assert "status == 4" in (JOBS / "Jenkinsfile").read_text()


def test_the_images_install_what_is_documented() -> None:
    ascend = (PROJECT / "docker" / "Dockerfile.ascend").read_text()
    constraints = re.search(r"-c (\S+)", ascend)
    assert constraints is not None and (PROJECT / constraints[1]).is_file()
    assert "'.[cpu]'" in (PROJECT / "docker" / "Dockerfile.cpu").read_text()
