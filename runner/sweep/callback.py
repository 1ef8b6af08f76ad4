"""What the runner does where Hydra starts: refuse settings that it cannot keep, note the sweep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from runner.errors import UserError
from runner.messages import complain
from runner.rundir import HYDRA
from runner.status import USAGE_ERROR
from runner.sweep import lock

_started: list[Path] = []


class Remember(Callback):
    """Hydra makes one, and tells nobody else the directory of a sweep."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _refuse(config.hydra)
        # Hydra would write there before the run knows whether the directory is its own.
        config.hydra.output_subdir = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _refuse(config.hydra)
        sweep = Path(str(config.hydra.sweep.dir))
        try:
            lock.take(sweep)
        except UserError as error:
            _end(error)
        _started.append(sweep)


def started_sweep() -> Path | None:
    """The directory of the sweep that this process has started."""
    return _started[-1] if _started else None


def _refuse(hydra: DictConfig) -> None:
    """Settings of Hydra's that would not be followed, before anything is written."""
    problems = []
    subdir = OmegaConf.to_container(hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
    if subdir != SUBDIR:
        problems.append(
            f"hydra.sweep.subdir={subdir}: the points of a sweep lie in directories named by their "
            "number; leave it out (sweep.md says which point is which)"
        )
    if hydra.output_subdir != HYDRA:
        problems.append(
            f"hydra.output_subdir={hydra.output_subdir}: Hydra's files of a run lie in {HYDRA}; "
            "leave it out"
        )
    if hydra.job.chdir:
        problems.append(
            "hydra.job.chdir=true: not supported, because relative paths mean the directory in "
            "which the command is run; leave it out"
        )
    if hydra.job.env_set or hydra.job.env_copy:
        problems.append(
            "hydra.job.env_set, hydra.job.env_copy: not supported; set variables of the worker "
            "under engine.env"
        )
    if problems:
        _end(UserError(*problems))


# As conf/config.yaml has it.
SUBDIR = "${hydra.job.num}"


def _end(error: UserError) -> None:
    complain(error)
    sys.exit(USAGE_ERROR)  # Hydra takes an exception of a callback for a warning
