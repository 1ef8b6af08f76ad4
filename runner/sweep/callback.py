"""Hydra callback: rejects unsupported Hydra settings and records the sweep directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from runner.errors import UserError
from runner.messages import complain
from runner.rundir import HYDRA, remove_empty
from runner.status import USAGE_ERROR
from runner.sweep import lock

_started: list[Path] = []
_runs: list[Path] = []


class Remember(Callback):
    """Callback that records the directory of the run or sweep before Hydra makes it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _refuse(config.hydra)
        # Hydra would write there before the run knows whether the directory is its own.
        config.hydra.output_subdir = None
        _runs.append(Path(str(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _refuse(config.hydra)
        sweep = Path(str(config.hydra.sweep.dir))
        try:
            lock.take(sweep)
        except UserError as error:
            _end(error)
        _started.append(sweep)


def started_sweep() -> Path | None:
    """Return the directory of the sweep that this process started."""
    return _started[-1] if _started else None


def leave_no_run_directory() -> None:
    """Remove the run directory if it is empty: Hydra makes it before it checks its settings."""
    for directory in _runs:
        remove_empty(directory)


def _refuse(hydra: DictConfig) -> None:
    """Reject Hydra settings that would have no effect, before anything is written."""
    problems = []
    subdir = OmegaConf.to_container(hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
    if subdir != SUBDIR:
        problems.append(
            f"hydra.sweep.subdir={subdir}: not supported, because the directory of each point is "
            "its number; remove it (sweep.md lists the points)"
        )
    if hydra.output_subdir != HYDRA:
        problems.append(
            f"hydra.output_subdir={hydra.output_subdir}: not supported, because Hydra's files are "
            f"always in {HYDRA}; remove it"
        )
    if hydra.job.chdir:
        problems.append(
            "hydra.job.chdir=true: not supported, because relative paths refer to the directory "
            "in which you run the command; remove it"
        )
    if hydra.job.env_set or hydra.job.env_copy:
        problems.append(
            "hydra.job.env_set, hydra.job.env_copy: not supported; set environment variables "
            "of the worker in engine.env"
        )
    if problems:
        _end(UserError(*problems))


# As conf/config.yaml has it.
SUBDIR = "${hydra.job.num}"


def _end(error: UserError) -> None:
    complain(error)
    sys.exit(USAGE_ERROR)  # Hydra takes an exception of a callback for a warning
