"""Runs one point in a process started by a third-party launcher such as submitit."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from runner.config.composed import Composed
from runner.config.overrides import written
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.language import gettext
from runner.report import terminal
from runner.run import check, perform
from runner.supervision.supervisor import Supervisor
from runner.sweep import record, resume
from runner.sweep.record import PointRecord
from runner.tracking.courier import Courier


def run_point(sweep: Path, point: PointRecord, config: RunConfig, composed: Composed) -> int:
    """Run a point and return its exit status; a finished point is not run again.

    Slurm may start a job twice.

    Raises:
        UserError: if the configuration or the machine does not allow it; no engine was started.
    """
    if config.preflight_only:
        raise UserError(
            "preflight_only=true: plans are shown on the machine where you run the command; remove "
            "the launcher"
        )
    config.sweep.id = record.sweep_id(sweep)
    said = written(OmegaConf.load(sweep / "multirun.yaml").hydra.overrides.task)
    keys = record.keys_of_names([point.overrides], said)
    config.sweep.point = record.point_name(point.overrides, keys) or None
    out = terminal.console()
    with Courier() as courier:
        checked = check(config, composed, courier, out)
        directory = sweep / str(point.number)
        status = resume.status_of(directory, checked)
        if status is not None:
            out.print(gettext("point {number}: already done", number=point.number))
            return status
        resume.make_room(directory)
        record.write_point(sweep, point)  # so that the comparison knows of a job that was killed
        with Supervisor() as engine:
            return perform(checked, directory, engine, courier, out).exit_status
