"""The versions that differ between the environments of a sweep over `engine.python`."""

from __future__ import annotations

from runner.environment import Environment
from runner.language import gettext
from runner.rundir import read_json
from runner.sweep.summary import Sweep

KEY = "engine.python"


def releases(sweep: Sweep) -> list[str]:
    """Return `0.23: vllm 0.23.0, torch 2.10.0` for each value of engine.python that was run.

    Packages with the same version everywhere are left out; the list is empty if none is left.
    """
    axis = next((each for each in sweep.axes if each.key == KEY), None)
    found: dict[str, dict[str, str]] = {}
    for point in sweep.points:
        value = point.overrides.get(KEY)
        file = point.files.environment
        if axis is not None and axis.name(value) not in found and file.is_file():
            environment: Environment = read_json(file, Environment)
            versions = {**environment.packages, "Python": environment.python}
            found[axis.name(value)] = versions
    names = dict.fromkeys(name for versions in found.values() for name in versions)
    differing = [
        name for name in names if len({versions.get(name) for versions in found.values()}) > 1
    ]
    if not differing:
        return []
    none = gettext("none")
    return [
        gettext(
            "{subject}: {finding}",
            subject=environment,
            finding=gettext(", ").join(f"{name} {versions.get(name, none)}" for name in differing),
        )
        for environment, versions in found.items()
    ]
