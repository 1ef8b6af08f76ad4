"""Installed versions of lm-eval and vLLM against those that the runner was tested with."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from runner.config.schema import RunConfig
from runner.runtimes import runtime_of

# The runner relies on names that lm-eval does not promise to keep (tests/contract/test_names.py).
LM_EVAL = SpecifierSet(">=0.4.13,<0.5")


def warnings(config: RunConfig) -> list[str]:
    """Return a line for each library whose version is outside the tested range."""
    runtime = runtime_of(config.engine.runtime)
    wanted = {"lm-eval": LM_EVAL, **runtime.tested(config.engine.platform)}
    found = []
    for name, tested in wanted.items():
        installed = config.engine.interpreter.version(name)
        if installed is not None and not _within(installed, tested):
            found.append(
                f"{name} {installed}: not tested with this runner (tested: {tested}); compare the "
                "first results with those of a tested version"
            )
    return found


def _within(installed: str, tested: SpecifierSet) -> bool:
    try:
        return tested.contains(Version(installed), prereleases=True)
    except InvalidVersion:
        return False
