"""A composed configuration as stored in a run's directory, with the command that requested it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner import secrecy
from runner.config import places
from runner.config.overrides import written
from runner.rundir import HYDRA, RunDirectory, write_atomic


@dataclass(frozen=True)
class Composed:
    """The files to store: `yaml` is config.yaml, `command` is command.txt, `hydra` is .hydra/."""

    yaml: str
    command: str = ""
    hydra: Mapping[str, str] = field(default_factory=dict)

    def write(self, run: RunDirectory) -> None:
        """Write the files to the run's directory."""
        write_atomic(run.config, self.yaml)
        write_atomic(run.command, self.command)
        for name, text in self.hydra.items():
            run.hydra.mkdir(exist_ok=True)
            write_atomic(run.hydra / name, text)


def composed_run(config: DictConfig, hydra: Any) -> Composed:
    """Return the files for a run that this process was started for."""
    return _composed(config, hydra, sys.orig_argv)


def composed_point(config: DictConfig, hydra: Any, overrides: Sequence[str]) -> Composed:
    """Return the files for a point of a sweep; its command runs only this point."""
    words = ["python", "-m", "runner"]
    words += [
        f"--config-dir={source.path!s}"
        for source in hydra.runtime.config_sources
        if source.provider == places.OWN
    ]
    if hydra.job.config_name != places.CONFIG_NAME:
        words.append(f"--config-name={hydra.job.config_name}")
    if any(hydra.runtime.choices.get(group, "none") != "none" for group in ("sweep", "suite")):
        words.append("hydra.mode=RUN")  # the choice would start the whole sweep
    return _composed(config, hydra, [*words, *overrides])


def command(words: Sequence[str], directory: str | Path | None = None) -> str:
    """Return the shell commands that repeat the call in its directory, with secrets masked."""
    typed = shlex.join(words)
    return secrecy.blotted(f"cd {shlex.quote(str(directory or Path.cwd()))}\n{typed}\n")


def _composed(config: DictConfig, hydra: Any, words: Sequence[str]) -> Composed:
    record = OmegaConf.create({"hydra": OmegaConf.to_container(hydra, resolve=False)})
    record.hydra.output_subdir = HYDRA
    files = {
        "config.yaml": OmegaConf.to_yaml(config),
        "hydra.yaml": OmegaConf.to_yaml(record),
        "overrides.yaml": OmegaConf.to_yaml(OmegaConf.create(written(hydra.overrides.task))),
    }
    return Composed(
        OmegaConf.to_yaml(config, resolve=True),
        command(words, hydra.runtime.cwd),
        {name: secrecy.blotted(text) for name, text in files.items()},
    )
