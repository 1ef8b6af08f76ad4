"""The jobs in docs/nightly are whole files, and their steps call the runner as documented."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config import loading
from runner.config.composition import compose

PROJECT = Path(__file__).parents[2]
JOBS = PROJECT / "docs" / "nightly"
SCRIPT = JOBS / "run_suite.sh"


@dataclass(frozen=True)
class Job:
    """The shell command of a job, and its variables."""

    command: str
    variables: dict[str, str]


def github() -> Job:
    (job,) = yaml.safe_load((JOBS / "github.yml").read_text())["jobs"].values()
    (command,) = (step["run"] for step in job["steps"] if "run_suite.sh" in step.get("run", ""))
    return Job(command, job["env"])


def gitlab() -> Job:
    job = yaml.safe_load((JOBS / "gitlab.yml").read_text())["accuracy"]
    (command,) = job["script"]
    return Job(command, job["variables"])


def jenkins() -> Job:
    text = (JOBS / "Jenkinsfile").read_text()
    (command,) = re.findall(r"script: '([^']*)'", text)
    return Job(command, dict(re.findall(r"^ +([A-Z]+) = '([^']*)'", text, re.MULTILINE)))


def kubernetes() -> Job:
    job = yaml.safe_load((JOBS / "kubernetes.yaml").read_text())["spec"]["jobTemplate"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return Job(shlex.join([*container["command"], *container["args"]]), variables)


EVERY = pytest.mark.parametrize("job", [github, gitlab, jenkins, kubernetes])


@dataclass(frozen=True)
class Ran:
    """What a job did with a stand-in for Python, which notes its arguments."""

    status: int
    calls: list[list[str]]
    errors: str

    @property
    def suite(self) -> list[str]:
        """The arguments of the runner itself."""
        (found,) = (call[2:] for call in self.calls if call[:2] == ["-m", "runner"])
        return found


PYTHON = """\
#!/bin/sh
for each in "$@"; do printf '%s\\n' "$each"; done >> "$CALLS"; echo >> "$CALLS"
for each in "$@"; do case $each in hydra.sweep.dir=*) night=${each#*=};; esac; done
case " $* " in
  *" runner.doctor "*) exit 1;;
  *" runner "*)
    mkdir -p "$night" && echo page > "$night/index.html" && echo {} > "$night/suite.json"
    exit "$STATUS";;
esac
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Run a job's shell step in a directory of its own, as its scheduler would."""

    def ran(job: Job, status: int = 0, **given: str) -> Ran:
        stand_in = tmp_path / "python"
        stand_in.write_text(PYTHON)
        stand_in.chmod(0o755)
        script = re.sub(r"\S*run_suite\.sh", str(SCRIPT), job.command)
        own = {"NIGHTS": "suites", "SUITE": "canary", "CI_JOB_URL": "https://ci/1"}
        variables = {**job.variables, **own, "PYTHON": str(stand_in), "STATUS": str(status)}
        if "PUBLISH" in job.variables:
            variables["PUBLISH"] = "pages"
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **variables, "CALLS": str(calls), **given},
            capture_output=True,
            text=True,
        )
        told = calls.read_text().split("\n\n")
        return Ran(done.returncode, [each.splitlines() for each in told if each], done.stderr)

    return ran


@EVERY
@pytest.mark.parametrize("status", [0, 2, 3, 4])
def test_a_job_ends_with_the_status_of_the_suite_and_publishes_its_pages(
    job: Callable[[], Job], status: int, run: Callable[..., Ran], tmp_path: Path
) -> None:
    ran = run(job(), status)
    assert ran.status == (0 if (job, status) == (github, 4) else status)  # GitHub has warnings
    assert (tmp_path / "pages" / "index.html").read_text() == "page\n"
    assert [call[1] for call in ran.calls] == ["runner.doctor", "runner", "runner.sync"]


@EVERY
def test_the_settings_of_a_job_compose(
    job: Callable[[], Job], run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGTALK_WEBHOOK", "https://oapi.dingtalk.com/robot/send?access_token=x")
    suite, place, option, directory, *settings = run(job()).suite
    assert suite == "suite=canary" and place.startswith("hydra.sweep.dir=suites/canary/20")
    assert (option, Path(directory).name) == ("--config-dir", "conf")
    composed = compose([f"suite={job().variables['SUITE']}", *settings], JOBS / "conf").suite
    assert composed.name == "nightly" and len(composed.entries) > 20
    assert loading.notify_of(composed).chats == {"dingtalk": "DINGTALK_WEBHOOK"}


def test_references_follow_only_a_night_that_passed(run: Callable[..., Ran]) -> None:
    good, bad = run(jenkins(), FOLLOW="1"), run(jenkins(), 3, FOLLOW="1")
    night = good.suite[1].removeprefix("hydra.sweep.dir=")
    assert ["-m", "runner.promote", "--auto", night] in good.calls
    assert not any("runner.promote" in call for call in bad.calls)


def test_a_directory_with_other_files_is_not_replaced(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "thesis.tex").write_text("years of work")
    ran = run(gitlab())
    assert (tmp_path / "pages" / "thesis.tex").exists()
    assert "PUBLISH=pages: has other files" in ran.errors and ran.status == 0
    shutil.rmtree(tmp_path / "pages")
    for _ in range(2):  # its own pages are
        assert "PUBLISH" not in run(gitlab()).errors


def test_the_pages_of_last_night_are_not_published_as_tonight_s(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    run(jenkins())
    assert (tmp_path / "pages" / "suite.json").exists()
    assert run(jenkins(), 1, NIGHTS="/proc/none").status == 1
    assert not (tmp_path / "pages").exists()


def test_jobs_tell_no_verdict_from_a_failure() -> None:
    gitlab_job: dict[str, Any] = yaml.safe_load((JOBS / "gitlab.yml").read_text())["accuracy"]
    assert gitlab_job["allow_failure"]["exit_codes"] == [4]
    assert "status == 4" in (JOBS / "Jenkinsfile").read_text()


def test_the_images_install_what_is_documented() -> None:
    ascend = (PROJECT / "docker" / "Dockerfile.ascend").read_text()
    constraints = re.search(r"-c (\S+)", ascend)
    assert constraints is not None and (PROJECT / constraints[1]).is_file()
    assert "'.[cpu]'" in (PROJECT / "docker" / "Dockerfile.cpu").read_text()
    assert (
        "WORKDIR /opt/accuracy-runner\nCOPY . ." in ascend
    )  # where kubernetes.yaml has the script
