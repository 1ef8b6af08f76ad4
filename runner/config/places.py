"""Where the choices of a configuration lie: conf/, and a user's own directories before it."""

from __future__ import annotations

from pathlib import Path

from runner.errors import UserError

PACKAGE = Path(__file__).parent.parent
# Data sets of the package, a directory for each id.
DATA_SETS = PACKAGE / "canary" / "datasets"
CONFIG_NAME = "config"
# Directories of a user's own (--config-dir), which come before conf/ (hydra_plugins/), and what
# Hydra's record of a run calls them.
own_directories: list[Path] = []
OWN = "command-line"


def config_directory() -> Path:
    """conf/ inside the package in a wheel, beside it in a checkout or editable install."""
    packaged = PACKAGE / "conf"
    return packaged if packaged.is_dir() else PACKAGE.parent / "conf"


def own_directory(given: str | Path) -> Path:
    """A directory of a user's choices, absolute.

    Raises:
        UserError: if it is none, or would replace the runner's own config.yaml.
    """
    directory = Path(given).expanduser().resolve()
    if not directory.is_dir():
        raise UserError(f"--config-dir={given}: no such directory")
    return directory


def is_group(key: str) -> bool:
    """Whether choices are made by it; a key of a setting has dots."""
    return key.startswith("hydra/") or any((each / key).is_dir() for each in directories())


def choices(group: str) -> list[str]:
    """The names of its files, a user's own among them; none for Hydra's own groups."""
    places = [] if group.startswith("hydra/") else directories()
    return sorted({file.stem for each in places for file in (each / group).glob("*.yaml")})


def file_of(choice: str) -> Path | None:
    """The file that `group/choice` is read from."""
    files = (each / f"{choice}.yaml" for each in directories())
    return next((file for file in files if file.is_file()), None)


def directories() -> list[Path]:
    """Where choices are read from; the first that has a file of a name wins."""
    return [*own_directories, config_directory()]
