"""`python -m runner.tracking.sender`: the only process that imports MLflow.

Requests come on standard input, answers leave through the file descriptor given as the only
argument (`runner.channel.sender`); MLflow prints on its own. When standard input ends, the process
that asked is gone, and so is this one, at once: what was half sent is found again by its key.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from runner import secrecy
from runner.channel.lines import Inbox, Outbox
from runner.channel.sender import (
    ANSWERS,
    REQUESTS,
    Answer,
    Done,
    Download,
    Failed,
    FindAlias,
    FindNoise,
    FindPeers,
    GiveAlias,
    ListRuns,
    OpenStore,
    Refused,
    Request,
    Result,
    SendRun,
    SendSummary,
    ShareView,
)
from runner.errors import UserError, cause
from runner.evidence.samples import read_samples
from runner.hubs import reason
from runner.present.mlflow_link import linked
from runner.rundir import RunDirectory, write_atomic, write_json
from runner.tracking import views
from runner.tracking.aliases import download, find_alias, find_noise, give_alias
from runner.tracking.answers import ARTIFACT, MARK, MOST, TAG, answers
from runner.tracking.listed import list_runs
from runner.tracking.peers import find_peers
from runner.tracking.records import KEY, MLFLOW_STATUS, Record, read_record
from runner.tracking.store import client_of, experiment_id_of, remove_unfinished
from runner.tracking.summaries import send_summary, share_view
from runner.tracking.tracked import TrackedRun, needed_command, run_page
from runner.visible import visible

# MLflow repeats the whole of a server's answer.
LONGEST_REASON = 200
CAUSED = re.compile(r"\(Caused by (.+)\)$")
# MLflow's own defaults wait four minutes for a server that is away. A request that is repeated
# where only its answer was lost makes a second run.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# Tags that a run may lose when its directory is moved.
PLACES_IN_SWEEP = ("sweep", "sweep_earlier", "suite", "suite_id", "suite_entry", "tier")
# The artifact that has the intervals.
TABLE = "metrics.csv"


def open_store(uri: str, experiment: str) -> None:
    """Create the store if it is missing; the experiment is created with its first run.

    Runs of this machine that a kill has left RUNNING in it are marked as what they were.
    """
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        with suppress(Exception):  # another time, then
            _mark_killed(client, found.experiment_id)


def send_run(directory: Path) -> TrackedRun:
    """Upload parameters, metrics, tags and files; complete an earlier partial upload."""
    run = RunDirectory(directory)
    record = read_record(run)
    secrecy.blot(run.engine_log)  # of a run that was killed
    client = client_of(record.begun.uri)
    experiment_id = experiment_id_of(client, record.begun.uri, record.begun.experiment)
    with suppress(Exception):  # the runs are there without it
        views.share_all_runs(client, experiment_id, record.columns)
    run_id = _run_id(client, experiment_id, record)
    tracked = TrackedRun(record.begun.uri, record.begun.experiment, experiment_id, run_id)
    _link(run, tracked)
    try:
        _send_values(client, run_id, record)
        client.log_artifacts(run_id, str(run.path))
        if record.table:
            client.log_text(run_id, record.table, TABLE)
        _send_answers(client, run_id, run)
    finally:
        client.set_terminated(run_id, status=record.status, end_time=record.ended_ms)
    write_json(run.tracked, tracked)
    return tracked


def _link(run: RunDirectory, tracked: TrackedRun) -> None:
    """Let the run's page point to where it is now."""
    with suppress(OSError):  # a disk that is full; the page is as good as before
        page = run.report_html.read_text(encoding="utf-8")
        new = linked(page, run_page(tracked), needed_command(tracked.uri))
        write_atomic(run.report_html, new)


def _run_id(client: Any, experiment_id: str, record: Record) -> str:
    """The run of an earlier attempt, or a new one."""
    begun = record.begun
    found = client.search_runs([experiment_id], f"tags.{KEY} = '{begun.key}'")
    for doubled in found[1:]:  # the answer to a request was lost, and it was made again
        client.delete_run(doubled.info.run_id)
    if not found:
        created = client.create_run(
            experiment_id, start_time=begun.started_ms, run_name=record.name, tags=record.tags
        )
        return str(created.info.run_id)
    run_id = str(found[0].info.run_id)
    for name in PLACES_IN_SWEEP:
        if name in found[0].data.tags and name not in record.tags:
            client.delete_tag(run_id, name)
    return run_id


def _send_values(client: Any, run_id: str, record: Record) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    metrics = [Metric(name, value, record.ended_ms, 0) for name, value in record.metrics.items()]
    params = [Param(name, value) for name, value in record.begun.params.items()]
    tags = [RunTag(name, value) for name, value in record.tags.items()]
    client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
    asked = [
        DatasetInput(
            Dataset(
                name=each.name,
                digest=each.digest,
                source_type="local" if each.source.startswith("/") else "hub",
                source=json.dumps({"path": each.source}),
                profile=json.dumps({"num_rows": each.documents}),
            ),
            [InputTag("mlflow.data.context", "evaluation")],
        )
        for each in record.datasets
    ]
    if asked:
        client.log_inputs(run_id, asked)


def _send_answers(client: Any, run_id: str, run: RunDirectory) -> None:
    """Not by MLflow's log_table: that would append to what an earlier attempt has sent."""
    with suppress(UserError):  # a run without samples, or with a damaged file, which is sent as is
        client.log_text(run_id, answers(read_samples(run.samples, MOST)), ARTIFACT)
        client.set_tag(run_id, TAG, MARK)


def _mark_killed(client: Any, experiment_id: str) -> None:
    """Runs that were being sent when this machine's process was killed: their tags say the rest."""
    host = os.uname().nodename
    query = f"attributes.status = 'RUNNING' and tags.host = '{host}'"
    for run in client.search_runs([experiment_id], query):
        tags = run.data.tags
        if KEY in tags and not _is_held(Path(tags["run_directory"]) / "tracking.json"):
            client.set_terminated(
                run.info.run_id, status=MLFLOW_STATUS.get(tags["verdict"], "FINISHED")
            )


def _is_held(file: Path) -> bool:
    """Whether a process that lives has it (runner/tracking/courier.py)."""
    try:
        with file.open("r+") as stream:
            return not lock_descriptor(stream.fileno(), blocking=False)
    except OSError:
        return False


def main() -> None:
    """Answer requests until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it is for the process that asks to say
        signal.signal(number, signal.SIG_IGN)
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    requests = Inbox(_requests())
    import mlflow

    # The first use of a store reports every table that it creates.
    for noisy in (mlflow.__name__, "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    answers = Outbox(os.fdopen(int(sys.argv[1]), "wb"), ANSWERS)
    while (request := requests.get()) is not None:
        answers.send(_answer(request))


def _requests() -> Iterator[Request[Result]]:
    yield from REQUESTS.read(os.fdopen(0, "rb", closefd=False))
    remove_unfinished()
    os._exit(0)


def _answer(request: Request[Result]) -> Answer:
    try:
        return Done(_result(request))
    except UserError as error:
        return Refused(error.problems)
    except Exception as error:  # any failure of the store, the network below it, or the disk
        return Failed(cause(error) or _said(error))


def _result(request: Request[Result]) -> Result:
    match request:
        case OpenStore(uri, experiment):
            open_store(uri, experiment)
            return None
        case SendRun(directory):
            send_run(directory)
            return None
        case ShareView():
            return share_view(request)
        case SendSummary():
            return send_summary(request)
        case FindAlias():
            return find_alias(request)
        case GiveAlias():
            return give_alias(request)
        case FindNoise():
            return find_noise(request)
        case FindPeers():
            return find_peers(request)
        case Download():
            return download(request)
        case ListRuns():
            return list_runs(request)
    raise TypeError(f"no request: {request!r}")


def _said(error: Exception) -> str:
    """The database's words, or the library's, which end with the cause; all of it can be seen."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, sqlite3.Error):
        inner = inner.__cause__ or inner.__context__
    text = reason(inner or error)
    caused = CAUSED.search(text)
    words = visible(caused[1] if caused else text).split()
    return " ".join(words)[:LONGEST_REASON]


if __name__ == "__main__":
    main()
