"""Where the sweep's results lie: known to Hydra's callbacks in the process that started it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from runner.attempt import USAGE_ERROR, complain
from runner.errors import UserError
from runner.sweep import lock

_started: list[Path] = []


class Remember(Callback):
    """Hydra makes one for each sweep, and tells nobody else its directory."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(str(config.hydra.sweep.dir))
        try:
            lock.take(sweep)
        except UserError as error:
            complain(error)
            sys.exit(USAGE_ERROR)  # Hydra takes an exception of a callback for a warning
        _started.append(sweep)


def started_sweep() -> Path | None:
    """The directory of the sweep that this process has started."""
    return _started[-1] if _started else None
