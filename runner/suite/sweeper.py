"""Base class of Hydra's sweeper for suites: one point for each entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.config.loading import entries_of, notify_of
from runner.errors import UserError
from runner.suite import entries


class EntriesSweeper(Sweeper):
    """Passes the entries' overrides to the launcher, all at once.

    `params` are those of a sweep, which can't be combined with a suite.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self._params = params
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: Sequence[str]) -> Any:
        """Run the suite.

        Raises:
            UserError: if the suite or the command line has a mistake; nothing was started.
        """
        assert self.config is not None and self.launcher is not None
        if self._params:
            raise UserError(
                "hydra.sweeper.params: a suite is no sweep; use either suite=… or sweep=…"
            )
        found = entries.numbered(entries_of(self.config.suite))
        notify = notify_of(self.config.suite)
        overrides = entries.overrides_of(found, arguments)
        directory = Path(str(self.config.hydra.sweep.dir))
        if not self.config.preflight_only:
            entries.write(directory, str(self.config.suite.name), found, notify)
            OmegaConf.save(self.config, directory / "multirun.yaml")  # for other launchers
        return self.launcher.launch(overrides, initial_job_idx=0)
