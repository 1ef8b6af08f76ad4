"""Check that another environment (`engine.python`) has what the worker needs."""

from __future__ import annotations

import importlib.metadata
import shlex
from collections.abc import Iterator, Sequence

from packaging.requirements import Requirement

from runner.config.schema import RunConfig
from runner.installed import canonical
from runner.packages import OURS
from runner.runtimes import runtime_of

# The runner's dependencies that modules of the worker import; a test compares them with those
# modules. The runner's own metadata has the versions.
NEEDED = (
    "aiohttp",
    "datasets",
    "filelock",
    "greenlet",
    "httpx",
    "huggingface-hub",
    "hydra-core",
    "jinja2",
    "lm-eval",
    "math-verify",
    "msgspec",
    "numpy",
    "omegaconf",
    "packaging",
    "pillow",
    "prometheus-client",
    "psutil",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scipy",
    "tenacity",
    "transformers",
)
# lm-eval's vLLM classes import it.
WITH_VLLM = ("ray",)
# Another version of it is a warning (`runner.preflight.versions`).
ANY_VERSION = ("lm-eval",)


def missing(config: RunConfig) -> list[str]:
    """Return one line with everything that `engine.python` lacks; nothing without the key.

    Raises:
        UserError: if the interpreter does not say what is installed.
    """
    python = config.engine.interpreter
    if python.path is None:
        return []
    uses_vllm = "vllm" in runtime_of(config.engine.runtime).engine_packages
    needed = (*NEEDED, *WITH_VLLM) if uses_vllm else NEEDED
    absent, other = [], []
    for requirement in _requirements(needed):
        version = python.version(requirement.name)
        if version is None:
            absent.append(requirement)
        elif requirement.name not in ANY_VERSION and not _satisfies(version, requirement):
            other.append((requirement, version))
    if not absent and not other:
        return []
    lacks = [each.name for each in absent]
    lacks += [f"{each} ({version} is installed)" for each, version in other]
    install = [*absent, *(each for each, _ in other)]
    command = shlex.join([f"{each.name}{each.specifier}" for each in install])
    return [f"the environment lacks {', '.join(lacks)}: {python.pip} install {command}"]


def _requirements(names: Sequence[str]) -> Iterator[Requirement]:
    """The distributions with the versions in the runner's metadata; any version if it has none."""
    try:
        lines = importlib.metadata.requires(OURS) or ()
    except importlib.metadata.PackageNotFoundError:
        lines = ()
    known = {canonical(each.name): each for each in map(Requirement, lines) if not _extra(each)}
    return (known.get(name, Requirement(name)) for name in names)


def _extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and "extra" in str(requirement.marker)


def _satisfies(version: str, requirement: Requirement) -> bool:
    return requirement.specifier.contains(version, prereleases=True)
