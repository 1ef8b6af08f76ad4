"""What may change from night to night: versions of software, weights, prompts, the reference run.

Their names in history.json are English; `shown` translates those that are words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.language import N_, gettext
from runner.tracking.records import PROMPTS

VERSION = "version."
# Further tags whose change is shown, under these names.
STATED = {
    "weights_digest": N_("weights"),
    "project_commit": N_("runner commit"),
    "python": "python",
    "reference_run": N_("reference run"),
}
PROMPTS_OF = "prompts of "
SHORT = 12


@dataclass(frozen=True)
class Version:
    """A version, file or prompt that changed since the night before; missing ones are empty."""

    name: str
    before: str
    after: str

    @property
    def said(self) -> str:
        """Return `vllm 0.31.0 → 0.32.0`."""
        return f"{shown(self.name)} {self.before or unknown()} → {self.after or unknown()}"


def versions(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the version of each that a run's tags have."""
    for name, value in tags.items():
        if name.startswith(VERSION):
            yield name.removeprefix(VERSION), value
        elif name in STATED and value:
            yield STATED[name], value[:SHORT]
        elif name.startswith(PROMPTS) and value:
            yield f"{PROMPTS_OF}{name.removeprefix(PROMPTS)}", value[:SHORT]


def shown(name: str) -> str:
    """Return the name in the reader's language."""
    if name in STATED.values():
        return gettext(name)
    if name.startswith(PROMPTS_OF):
        return gettext("prompts of {task}", task=name.removeprefix(PROMPTS_OF))
    return name


def unknown() -> str:
    """Return what stands for a version that was not recorded."""
    return gettext("unknown")
