"""Where the sweep's results lie: known to Hydra's callbacks in the process that started it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_started: list[Path] = []


class Remember(Callback):
    """Hydra makes one for each sweep, and tells nobody else its directory."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _started.append(Path(str(config.hydra.sweep.dir)))


def started_sweep() -> Path | None:
    """The directory of the sweep that this process has started."""
    return _started[-1] if _started else None
