"""Aliases of runs, stored in MLflow as a tag of the run.

The tag `alias.baseline` of a run holds `model/task+task`: the tasks that the run stands for. A name
belongs to one run a model and task: who is promoted takes it from who had it. Two people who
promote at one moment may leave it with two; a look-up then fails until one is promoted again.

The tag `noise_runs` holds the ids of its noise runs: replays of it on correct stacks
(`verdict=replay`). It belongs to the run, not to one of its aliases.

All this runs in the process that imports MLflow (runner/tracking/sender.py).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from runner.channel.sender import Download, FindAlias, FindNoise, GiveAlias
from runner.errors import UserError

PREFIX = "alias."
SINCE = "alias_since."
NOISE = "noise_runs"


def now() -> str:
    """The time of a promotion, as its tag has it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def find_alias(wanted: FindAlias) -> str:
    """Return the id of the run with the alias; empty if none has it and it is not required.

    Raises:
        UserError: if none has it (others of that name are listed), or if several do.
    """
    name, model, task, uri = wanted.name, wanted.model, wanted.task, wanted.uri
    bearers = list(_bearers(_client(uri), name))
    fitting = [run for run, its_model, tasks in bearers if its_model == model and task in tasks]
    if not fitting and not wanted.required:
        return ""
    if not fitting:
        known = sorted(f"{name}@{m}/{each}" for _, m, tasks in bearers for each in tasks)
        raise UserError(
            f"verdict.reference={name}@{model}/{task}: no run at tracking.uri={uri} has this "
            f"alias; set it with python -m runner.promote RUN --alias {name} (existing aliases: "
            f"{', '.join(known) or 'none with this name'})"
        )
    if len(fitting) > 1:
        # The later one could be the one that nobody checked, so none is taken.
        latest_first = sorted(
            fitting, key=lambda run: run.data.tags.get(f"{SINCE}{name}", ""), reverse=True
        )
        held = ", ".join(str(run.info.run_id) for run in latest_first)
        raise UserError(
            f"verdict.reference={name}@{model}/{task}: {len(fitting)} runs have this alias, the "
            f"latest first: {held}; promote one of them again (python -m runner.promote RUN "
            f"--alias {name}), which takes the alias from the others"
        )
    return str(fitting[0].info.run_id)


def give_alias(given: GiveAlias) -> tuple[str, ...]:
    """Give the run the alias for the model and tasks; return the ids of the runs that lose it.

    The new bearer is named first: at no moment is there none. Its noise runs are stored before
    that, so whoever finds the alias finds them as well.

    Raises:
        UserError: if a noise run is not in this store.
    """
    client, run_id, name = _client(given.uri), given.run_id, given.name
    model, tasks = given.model, given.tasks
    before = [
        (run, theirs)
        for run, its_model, theirs in _bearers(client, name)
        if its_model == model and run.info.run_id != run_id and not set(tasks).isdisjoint(theirs)
    ]
    if given.noise:
        _require(client, given.noise)
        client.set_tag(run_id, NOISE, ",".join(given.noise))
    client.set_tag(run_id, f"{SINCE}{name}", given.since)
    client.set_tag(run_id, f"{PREFIX}{name}", f"{model}/{'+'.join(tasks)}")
    for run, theirs in before:
        left = [task for task in theirs if task not in tasks]
        if left:
            client.set_tag(run.info.run_id, f"{PREFIX}{name}", f"{model}/{'+'.join(left)}")
        else:
            client.delete_tag(run.info.run_id, f"{PREFIX}{name}")
            client.delete_tag(run.info.run_id, f"{SINCE}{name}")
    return tuple(str(run.info.run_id) for run, _ in before)


def find_noise(wanted: FindNoise) -> tuple[str, ...]:
    """Return the ids of the noise runs that are stored with the run."""
    stored = _client(wanted.uri).get_run(wanted.run_id).data.tags.get(NOISE, "")
    return tuple(stored.split(",")) if stored else ()


def download(files: Download) -> tuple[str, ...]:
    """Copy a run's existing files; return their names.

    Raises:
        UserError: if the run has no such file among its artifacts.
    """
    client, run_id = _client(files.uri), files.run_id
    there = {file.path for file in client.list_artifacts(run_id) if not file.is_dir}
    if missing := [name for name in files.needed if name not in there]:
        raise UserError(
            f"verdict.reference: MLflow's run {run_id} has no {', '.join(missing)} among its "
            "artifacts; a reference must be a completed run of this runner"
        )
    found = tuple(name for name in (*files.wanted, *files.needed) if name in there)
    for name in found:
        client.download_artifacts(run_id, name, str(files.directory))
    return found


def _require(client: Any, run_ids: Iterable[str]) -> None:
    """Refuse runs that others who use this store could not find."""
    from mlflow.exceptions import MlflowException

    for run_id in run_ids:
        try:
            there = client.get_run(run_id).info.lifecycle_stage != "deleted"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            there = False
        if not there:
            raise UserError(
                f"--noise: run {run_id} is not in the MLflow store of the reference run, or is "
                "deleted there; replay the reference run again with tracking.uri set to that store"
            )


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _bearers(client: Any, name: str) -> Iterable[tuple[Any, str, list[str]]]:
    """Every run with the tag: the run, its model, the tasks that it stands for."""
    experiments: list[str] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        experiments += [each.experiment_id for each in page]
        token = page.token
        if not token:
            break
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
