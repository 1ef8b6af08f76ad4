"""The run that others are held against: found by directory, MLflow run id or alias, and read."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.errors import UserError, cause
from runner.evidence.samples import Sample
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent
from runner.verdict import Against, ReferenceUsed
from runner.verdict.doubts import doubts_of
from runner.verdict.result import Verdict

KEY = "verdict.reference"
RUN_ID = re.compile(r"[0-9a-f]{32}")
# What a verdict and a comparison read of a run; its log and its events stay where they are.
NEEDED = ("plan.json", "outcome.json", "samples.parquet")
# Of a plan: with another one, answers are not to the same question.
SETTINGS = ("gen_kwargs", "system_instruction")
# What MLflow may take in all to say which run is meant, and to hand over its files.
LOOKUP_S, DOWNLOAD_S = 60.0, 300.0
WANTED = ("environment.json", "verdict.json", "config.yaml", "images.parquet")


@dataclass(frozen=True)
class Alias:
    """`baseline@qwen2_5_vl_7b/mmmu_val`: a name for the run that stands for a model and a task."""

    name: str
    model: str
    task: str

    @classmethod
    def parse(cls, text: str) -> Alias | None:
        name, at, rest = text.partition("@")
        model, slash, task = rest.partition("/")
        return cls(name, model, task) if at and slash and name and model and task else None


@dataclass(frozen=True)
class Located:
    """A run's directory here, and its id where it came from MLflow."""

    directory: Path
    run_id: str | None = None


@dataclass(frozen=True)
class Reference:
    """A run that can be judged against: complete, and with its samples."""

    used: ReferenceUsed
    files: RunDirectory
    outcome: Outcome
    asked: dict[str, dict[str, Any]]
    settings: dict[str, Any]

    def against(self, samples: Sequence[Sample]) -> Against:
        """It and its samples, as a rule wants them."""
        limits = {task: asked.get("limit") for task, asked in self.asked.items()}
        return Against(self.used, self.outcome, samples, limits)


def locate(name: str, uri: str, courier: Courier) -> Located:
    """The run's directory; what MLflow has of it is copied into the user's cache first.

    MLflow is asked through the courier, and waited for as long as LOOKUP_S and DOWNLOAD_S say.

    Raises:
        UserError: if there is no such run, or MLflow cannot be asked.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        return Located(directory.resolve(), _tracked_id(directory))
    alias = Alias.parse(name)
    if alias is None and not RUN_ID.fullmatch(name):
        raise UserError(
            f"{KEY}={name}: no such directory, and neither an MLflow run id (32 hexadecimal "
            "digits) nor an alias (NAME@model/task)"
        )
    if not uri:
        raise UserError(f"{KEY}={name}: is kept in MLflow; set tracking.uri, or name a directory")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise UserError(f"{KEY}={name}: is kept in MLflow, and there is no store at {uri}")
    run_id = name
    try:
        if alias is not None:
            run_id = courier.find_alias(LOOKUP_S, **asdict(alias), uri=uri)
        return Located(_fetched(run_id, uri, courier), run_id)
    except NotSent as error:
        raise UserError(
            f"{KEY}={name}: MLflow at tracking.uri={uri} has no such run, or does not answer "
            f"({error}); name the run's directory instead: that needs no MLflow"
        ) from error
    except OSError as error:
        raise UserError(
            f"{KEY}={name}: no place for its files ({cause(error)}); XDG_CACHE_HOME names another"
        ) from error


def read(name: str, located: Located) -> Reference:
    """What can be said against the run as a reference is said now.

    Raises:
        UserError: if it did not finish, is incomplete, or has left no samples.
    """
    files = RunDirectory(located.directory)
    for file in NEEDED:
        if not (located.directory / file).is_file():
            raise UserError(
                f"{KEY}={name}: {located.directory} has no {file}: name the directory of a run "
                "that was completed"
            )
    try:
        plan = json.loads(files.plan.read_text(encoding="utf-8"))
        outcome: Outcome = read_json(files.outcome, Outcome)
        verdict: Verdict | None = (
            read_json(files.verdict, Verdict) if files.verdict.is_file() else None
        )
        used = ReferenceUsed(
            name=name,
            directory=str(located.directory),
            run_id=located.run_id,
            model=plan["model"],
            platform=plan["platform"],
            layout=_layout(plan),
            engine_fingerprint=plan["engine_fingerprint"],
            evaluation_fingerprint=plan["evaluation_fingerprint"],
            status=verdict.status.value if verdict is not None else "",
        )
        asked = {each["task"]: each for each in plan["evaluations"]}
        settings = {name: plan[name] for name in SETTINGS}
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{KEY}={name}: cannot be read as a run of ours ({said})") from error
    broken = incomplete(outcome) or _lost(files, outcome)
    if broken:
        raise UserError(*(f"{KEY}={name}: {line}" for line in broken))
    return Reference(used, files, outcome, asked, settings)


def incomplete(outcome: Outcome) -> list[str]:
    """Why a run does not stand for its tasks; empty where it does."""
    if outcome.state is not State.COMPLETED:
        return [f"the run ended with {outcome.state.value}: {outcome.reason}"]
    if not outcome.tasks:
        return ["the run evaluated nothing"]
    return [
        f"of {task.task}, {doubts}"
        for task in outcome.tasks
        if (doubts := doubts_of(task, task.evaluated))
    ]


def _lost(files: RunDirectory, outcome: Outcome) -> list[str]:
    """Whether the file of samples holds what the run counted; answers are left unread."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(files.samples, columns=["task", "doc_id"]).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        return [f"{files.samples}: cannot be read ({str(error).splitlines()[0]})"]
    kept = len({(row["task"], row["doc_id"]) for row in rows})
    counted = sum(task.evaluated for task in outcome.tasks)
    if kept == counted:
        return []
    return [f"{files.samples} holds {kept} samples, and the run counted {counted}"]


def misfits(reference: Reference, plan: Plan) -> list[str]:
    """What makes a comparison with this plan pointless, known before an engine starts."""
    name = f"{KEY}={reference.used.name}"
    found = []
    for each in plan.evaluations:
        asked = reference.asked.get(each.task)
        if asked is None or each.task not in {task.task for task in reference.outcome.tasks}:
            known = ", ".join(reference.asked)
            found.append(f"{name}: the run did not evaluate {each.task}, only {known}")
            continue
        for setting in ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn"):
            theirs, ours = asked.get(setting), getattr(each, setting)
            if theirs != ours:
                found.append(
                    f"{name}: {each.task} was asked with {setting}={theirs}, and would be asked "
                    f"with {ours} now: other prompts cannot be paired"
                )
        if _smaller(asked.get("limit"), each.limit):
            found.append(
                f"{name}: was asked {each.task} with limit={asked['limit']:g}, and this run asks "
                f"{'all' if each.limit is None else format(each.limit, 'g')}: set "
                f"task.limit={asked['limit']:g}, or name a reference that was asked as much"
            )
    for setting, theirs in reference.settings.items():
        if theirs != (ours := getattr(plan, setting)):
            found.append(f"{name}: was asked with {setting}={theirs}, and this run with {ours}")
    return found


def _smaller(theirs: float | None, ours: float | None) -> bool:
    """Whether the reference was surely asked fewer samples; shares and counts don't compare."""
    if theirs is None:
        return False
    if ours is None:
        return True
    return (theirs < 1) == (ours < 1) and theirs < ours


def _layout(plan: dict[str, Any]) -> str:
    args = plan["engine_args"]
    return f"TP{args.get('tensor_parallel_size', 1)}, {args.get('dtype', 'auto')}"


def _tracked_id(directory: Path) -> str | None:
    """Of a directory that was sent to MLflow."""
    file = RunDirectory(directory).tracked
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fetched(run_id: str, uri: str, courier: Courier) -> Path:
    """The run's files in the cache, whole or not there: what a run has left does not change."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "ascend-accuracy-runner" / "runs" / run_id
    if all((directory / name).is_file() for name in NEEDED):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{run_id}.", dir=directory.parent) as part:
        found = courier.download(
            DOWNLOAD_S, run_id=run_id, uri=uri, directory=part, needed=NEEDED, wanted=WANTED
        )
        directory.mkdir(exist_ok=True)
        for name in found:
            Path(part, name).replace(directory / name)
    return directory
