"""The Python interpreter that runs the worker: the runner's own, or one of another environment.

Another environment is asked by a process of that interpreter (`runner.installed`), and its worker
executes this runner's code, whatever is installed there.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from runner import installed, packages
from runner.errors import UserError
from runner.installed import Installed, canonical, installed_version
from runner.packages import AT_START, FRESH_S, OURS, PACKAGE

# requires-python in pyproject.toml; older versions cannot compile the runner's modules.
OLDEST = (3, 10)
TOO_OLD = 9
# From a cold network disk, to list and compare tens of thousands of files.
ANSWER_S = 180.0
ASK = f"""
import sys
if sys.version_info < {OLDEST}:
    print("%d.%d.%d" % sys.version_info[:3])
    sys.exit({TOO_OLD})
sys.path.insert(0, sys.argv[1])
from runner.installed import main
del sys.path[0]
sys.path[1:1] = filter(None, sys.argv[2].split(":"))  # behind the working directory
main(sys.argv[2])
"""
# Variables that point an interpreter to one environment's files.
OF_ONE_ENVIRONMENT = ("PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter and what is installed for it.

    `path` is an absolute path, whose links are not followed: a virtual environment's interpreter
    is a link. None is this process's own interpreter. `python_path` is the worker's PYTHONPATH.

    Each question to another interpreter raises UserError if it does not answer; answers are cached
    for a minute.
    """

    path: str | None = None
    python_path: str = ""

    def look(self) -> Installed:
        """Everything that is installed, with the digests of its code."""
        if self.path is None:
            return installed.look(self.python_path)
        return _ask(self.path, self.python_path, int(time.monotonic() / FRESH_S))

    def version(self, distribution: str) -> str | None:
        """The version of an installed distribution, without importing it."""
        if self.path is None:
            return installed_version(distribution)
        return self.look().versions.get(canonical(distribution))

    def places(self, module: str) -> tuple[str, ...]:
        """The directories or the file of one of `installed.MODULES`; () if it is absent."""
        if self.path is None:
            return packages.places_of(module)
        return self.look().places.get(module, ())

    @property
    def python(self) -> str:
        """The version of Python."""
        return platform.python_version() if self.path is None else self.look().python

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of the installed distributions that vLLM loads as plugins."""
        return packages.engine_plugins() if self.path is None else self.look().plugins

    @property
    def pip(self) -> str:
        """The command that installs packages for it."""
        return "pip" if self.path is None else f"{shlex.quote(self.path)} -m pip"

    def install(self, extra: str, packages: str) -> str:
        """The command that installs an engine: our extra here, these packages elsewhere.

        The extra would bring one release, and the runner, which need not be installed there.
        """
        wanted = f"'ascend-accuracy-runner[{extra}]'" if self.path is None else packages
        return f"{self.pip} install {wanted}"

    def changed_since(self, known: Mapping[str, str]) -> list[str]:
        """The packages whose digests differ from the known ones.

        Modules in AT_START are not checked: a worker's PYTHONPATH puts the runner's sitecustomize
        first.
        """
        if self.path is None:
            names = [name for name in known if name not in AT_START]
            found = packages.code_of(names, self.python_path)
        else:
            code = self.look().code
            found = {name: code[name] for name in code if name not in AT_START}
        found[OURS] = packages.own_code()
        return [name for name, code in found.items() if known.get(name, code.digest) != code.digest]


OWN = Interpreter()


def interpreter_of(python: str | None, variables: Mapping[str, str]) -> Interpreter:
    """The interpreter of `engine.python`, for a worker that gets these variables besides ours."""
    python_path = {**os.environ, **variables}.get("PYTHONPATH", "")
    return Interpreter(python and str(Path(python).expanduser().absolute()), python_path)


def only_the_runner(directory: Path) -> str:
    """Make a directory below this one from which `runner` can be imported, and nothing else.

    The directory that holds the runner may be a site directory, whose packages must not come before
    those of another environment.
    """
    place = directory / "code"
    place.mkdir()
    (place / PACKAGE.name).symlink_to(PACKAGE, target_is_directory=True)
    return str(place)


def variables_for(python: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables for another environment's interpreter: its programs first, none of ours."""
    kept = {name: text for name, text in inherited.items() if name not in OF_ONE_ENVIRONMENT}
    programs = [str(Path(python).parent), *filter(None, [kept.get("PATH")])]
    return {**kept, "PATH": os.pathsep.join(programs)}


@lru_cache(maxsize=16)
def _ask(path: str, python_path: str, moment: int) -> Installed:
    """What is installed for another interpreter. `moment` limits how long the answer is used.

    Raises:
        UserError: if the file is no Python interpreter that can run the runner's code.
    """
    if why := _unusable(Path(path)):
        raise UserError(f"engine.python={path}: {why}")
    variables = variables_for(path, os.environ)
    # `ASK` sets it later: a sitecustomize there, such as the runner's own for CPUs, may add names.
    variables.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="runner-python-") as scratch:
        try:
            answer = subprocess.run(
                [path, "-c", ASK, only_the_runner(Path(scratch)), python_path],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                env=variables,
                timeout=ANSWER_S,
                check=False,
            )
        except OSError as error:
            raise UserError(f"engine.python={path}: cannot be started ({error.strerror})") from None
        except subprocess.TimeoutExpired:
            raise UserError(
                f"engine.python={path}: did not say within {ANSWER_S:.0f} s what is installed"
            ) from None
    said = answer.stdout.decode(errors="replace").strip().splitlines()[-1:]
    if answer.returncode == TOO_OLD and said:
        oldest = ".".join(map(str, OLDEST))
        raise UserError(f"engine.python={path}: is Python {said[0]}, must be {oldest} or later")
    try:
        return Installed.read(json.loads(said[0]))
    except (ValueError, LookupError, TypeError, AttributeError):
        errors = answer.stderr.decode(errors="replace").strip().splitlines()
        failed = [line for line in errors if line.startswith("Fatal Python error")]
        if any(line.startswith("Traceback") for line in errors):
            failed = errors[-1:]
        why = f"fails ({failed[0]})" if failed else "not a Python interpreter"
        raise UserError(f"engine.python={path}: {why}") from None


def _unusable(file: Path) -> str:
    if file.is_dir():
        return "is a directory; give its interpreter, usually bin/python in it"
    if not file.is_file():
        return "no such file"
    return "" if os.access(file, os.X_OK) else "not executable"
