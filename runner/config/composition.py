"""Compose conf/ without `hydra.main`, for the commands that take a run's settings."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig, open_dict

from runner.config import loading, places
from runner.config.model_choice import refuse_other_weights
from runner.config.overrides import settled
from runner.config.usage import explain, is_usage_error
from runner.errors import UserError


def compose(
    overrides: list[str],
    config_dir: str | Path | None = None,
    config_name: str = places.CONFIG_NAME,
) -> DictConfig:
    """Return what `python -m runner` would compose; `config_dir` takes precedence over conf/.

    `config_name` is the file that the composition starts with, without its ending.

    Raises:
        UserError: as there.
    """
    loading.register()
    directory = str(loading.config_directory())
    before = places.own_directories[:]
    try:
        if config_dir is not None:
            places.own_directories[:] = [places.own_directory(config_dir)]
        with hydra.initialize_config_dir(directory, version_base="1.3"):
            composed = hydra.compose(config_name, settled(overrides), return_hydra_config=True)
        refuse_other_weights(composed.hydra)
    except Exception as error:
        if not is_usage_error(error):
            raise
        raise UserError(explain(error)) from error
    finally:
        places.own_directories[:] = before
    with open_dict(composed):
        del composed["hydra"]
    return composed
