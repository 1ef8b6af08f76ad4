"""conf/ composed outside of `hydra.main`: for the commands that take a run's settings."""

from __future__ import annotations

import re
from pathlib import Path

import hydra
from omegaconf import DictConfig

from runner.config import loading
from runner.config.usage import explain, is_usage_error
from runner.errors import UserError

# Mappings that a user fills: a new key in them needs no plus sign.
OPEN_MAPPINGS = re.compile(
    r"(engine\.(extra|env|additional_config)|task\.gen_kwargs"
    r"|model\.(baselines|by_series|ask|chat_template_args)|verdict\.metrics)[.=]"
)


def compose(overrides: list[str], config_dir: str | Path | None = None) -> DictConfig:
    """What `python -m runner` would compose from these overrides; `config_dir` joins conf/.

    `tracking.uri` must be among them, or `tracking=off`: its default asks `hydra.main`.

    Raises:
        UserError: as there.
    """
    loading.register()
    chosen = [opened(each) for each in overrides]
    if config_dir is not None:
        chosen.append(f"hydra.searchpath=[file://{Path(config_dir).expanduser().resolve()}]")
    directory = str(loading.config_directory())
    try:
        with hydra.initialize_config_dir(directory, version_base="1.3"):
            return hydra.compose("config", chosen)
    except Exception as error:
        if not is_usage_error(error):
            raise
        raise UserError(explain(error)) from error


def opened(override: str) -> str:
    """`++` before a key of a mapping that a user fills."""
    return f"++{override}" if OPEN_MAPPINGS.match(override) else override


def quoted(text: str) -> str:
    """Any text as a value that Hydra's override grammar takes whole."""
    # Backslashes are themselves, but for those before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"
