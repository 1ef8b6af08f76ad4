"""One point in a process of its own, which a launcher that is not ours has started: submitit's."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from omegaconf import OmegaConf

from runner import terminal
from runner.config import RunConfig
from runner.errors import UserError
from runner.run import check, perform
from runner.supervisor import Supervisor
from runner.sweep import record, resume
from runner.sweep.record import PointRecord
from runner.tracking.sender import IMPATIENT

SQLITE = "sqlite:///"


def run_point(sweep: Path, point: PointRecord, config: RunConfig, composed: str) -> int:
    """The exit status. A point that is done is not run again: Slurm may start a job twice.

    Raises:
        UserError: if the configuration or the machine rules it out; no engine was started then.
    """
    if config.preflight_only:
        raise UserError(
            "preflight_only=true: shows plans on the machine where it is called; leave the "
            "launcher out"
        )
    config.sweep.id = record.sweep_id(sweep)
    said = OmegaConf.load(sweep / "multirun.yaml").hydra.overrides.task
    keys = record.keys_of_names([point.overrides], said)
    config.sweep.point = record.point_name(point.overrides, keys) or None
    out = terminal.console()
    checked = check(config, composed, out)
    directory = sweep / str(point.number)
    status = resume.status_of(directory, checked)
    if status is not None:
        out.print(f"point {point.number}: done before")
        return status
    resume.make_room(directory)
    record.write_point(sweep, point)  # so that the comparison knows of a job that was killed
    if config.tracking.enabled:
        create_store(config.tracking.uri, sweep / ".store.lock")
    with Supervisor() as engine:
        return perform(checked, directory, engine, out).exit_status


def create_store(uri: str, lock: Path) -> None:
    """One after the other: jobs that make a SQLite store's tables together break each other's.

    A store that cannot be made costs a warning, when the run is recorded.
    """
    if not uri.startswith(SQLITE):
        return
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if Path(uri.removeprefix(SQLITE)).exists():
            return
        for name, value in IMPATIENT.items():
            os.environ.setdefault(name, value)
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
        except Exception as error:  # any failure of the store
            print(f"{uri}: {error}")
