"""Names that a team gives to runs, kept in MLflow as a tag of the run that bears the name.

The tag `alias.baseline` of a run holds `model/task+task`: the tasks that the run stands for. A name
belongs to one run a model and task: who is promoted takes it from who had it. Two people who
promote at one moment may leave it with two; then the later promotion counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UserError
from runner.tracking.sender import IMPATIENT

if TYPE_CHECKING:
    from runner.reference import Alias

PREFIX = "alias."
SINCE = "alias_since."
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def find(alias: Alias, uri: str) -> str:
    """The id of the run that bears the alias.

    Raises:
        UserError: if none does; others of that name are listed.
    """
    bearers = list(_bearers(_client(uri), alias.name))
    fitting = [
        run for run, model, tasks in bearers if (model, True) == (alias.model, alias.task in tasks)
    ]
    if not fitting:
        known = sorted(f"{alias.name}@{m}/{task}" for _, m, tasks in bearers for task in tasks)
        raise UserError(
            f"verdict.reference={alias.name}@{alias.model}/{alias.task}: no run at "
            f"tracking.uri={uri} bears this alias; set it with python -m runner.promote RUN "
            f"--alias {alias.name} (there is {', '.join(known) or 'none of that name'})"
        )
    latest = max(fitting, key=lambda run: run.data.tags.get(f"{SINCE}{alias.name}", ""))
    return str(latest.info.run_id)


def give(
    run_id: str, name: str, model: str, tasks: Sequence[str], since: str, uri: str
) -> list[str]:
    """Let the run bear the name for the model and tasks; the ids of the runs that lose it.

    The new bearer is named first: at no moment is there none.
    """
    client = _client(uri)
    before = [
        (run, theirs)
        for run, its_model, theirs in _bearers(client, name)
        if its_model == model and run.info.run_id != run_id and not set(tasks).isdisjoint(theirs)
    ]
    client.set_tag(run_id, f"{SINCE}{name}", since)
    client.set_tag(run_id, f"{PREFIX}{name}", f"{model}/{'+'.join(tasks)}")
    for run, theirs in before:
        left = [task for task in theirs if task not in tasks]
        if left:
            client.set_tag(run.info.run_id, f"{PREFIX}{name}", f"{model}/{'+'.join(left)}")
        else:
            client.delete_tag(run.info.run_id, f"{PREFIX}{name}")
            client.delete_tag(run.info.run_id, f"{SINCE}{name}")
    return [str(run.info.run_id) for run, _ in before]


def download(
    run_id: str, uri: str, directory: Path, needed: Iterable[str], wanted: Iterable[str]
) -> None:
    """Copy a run's files; each is whole or not there. Raises what MLflow raises.

    Raises:
        UserError: if the run has no such file among its artifacts.
    """
    client = _client(uri)
    there = {file.path for file in client.list_artifacts(run_id)}
    if missing := [name for name in needed if name not in there]:
        raise UserError(
            f"verdict.reference: MLflow's run {run_id} has no {', '.join(missing)} among its "
            "artifacts; a reference is a completed run of ours"
        )
    part = directory.with_name(f".{directory.name}.{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    for name in (*wanted, *needed):
        if name in there:
            client.download_artifacts(run_id, name, str(part))
            (part / name).replace(directory / name)
    with suppress(OSError):
        part.rmdir()


def _client(uri: str) -> Any:
    for name, value in {**IMPATIENT, **QUIET}.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


def _bearers(client: Any, name: str) -> Iterable[tuple[Any, str, list[str]]]:
    """Every run with the tag: the run, its model, the tasks that it stands for."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    token = None
    while experiments:
        page = client.search_runs(
            experiments, f"tags.`{PREFIX}{name}` LIKE '%/%'", max_results=1000, page_token=token
        )
        for run in page:
            model, _, tasks = run.data.tags[f"{PREFIX}{name}"].partition("/")
            yield run, model, tasks.split("+")
        token = page.token
        if not token:
            return
