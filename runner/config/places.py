"""The directories of configuration files: the user's own directories, then conf/."""

from __future__ import annotations

from pathlib import Path

from runner.errors import UserError

PACKAGE = Path(__file__).parent.parent
# Data sets of the package, a directory for each id.
DATA_SETS = PACKAGE / "canary" / "datasets"
# The package's task files for chat models; lm-eval's own tasks are in lm-eval.
TASKS = PACKAGE / "tasks"
CONFIG_NAME = "config"
# Directories in conf/ whose files are no part of a run's configuration, and what they are for.
ASIDE = {
    "ladder": "not a setting of a run; python -m runner.why RUN --ladder NAME tries the changes in "
    "conf/ladder/NAME.yaml on a run",
}
# Directories of a user's own (--config-dir), which come before conf/ (hydra_plugins/), and what
# Hydra's record of a run calls them.
own_directories: list[Path] = []
OWN = "command-line"


def config_directory() -> Path:
    """Return conf/: inside the package in a wheel, next to it in a checkout or editable install."""
    packaged = PACKAGE / "conf"
    return packaged if packaged.is_dir() else PACKAGE.parent / "conf"


def own_directory(given: str | Path) -> Path:
    """Return the absolute path of a user's configuration directory.

    Raises:
        UserError: if it is none, or would replace the runner's own config.yaml.
    """
    directory = Path(given).expanduser().resolve()
    if not directory.is_dir():
        raise UserError(f"--config-dir={given}: no such directory")
    return directory


def is_group(key: str) -> bool:
    """Return whether the key is a configuration group; keys of settings contain dots."""
    if key in ASIDE:
        return False
    return key.startswith("hydra/") or any((each / key).is_dir() for each in directories())


def groups() -> list[str]:
    """Return the names of the configuration groups in their order, without Hydra's own."""
    found = {each.name for place in directories() for each in place.iterdir() if each.is_dir()}
    return sorted(name for name in found if is_group(name) and name != "hydra" and choices(name))


def choices(group: str) -> list[str]:
    """Return the names of a group's files, including the user's; none for Hydra's own groups."""
    places = [] if group.startswith("hydra/") else directories()
    return sorted({file.stem for each in places for file in (each / group).glob("*.yaml")})


def file_of(choice: str) -> Path | None:
    """Return the file that defines `group/choice`."""
    files = (each / f"{choice}.yaml" for each in directories())
    return next((file for file in files if file.is_file()), None)


def directories() -> list[Path]:
    """Return the directories in order of precedence; the first that has a file wins."""
    return [*own_directories, config_directory()]
