"""What graph mode changes: the outputs outside of the graph, in graph mode and in eager mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from runner.evidence.sketches import PHASES, Sketches
from runner.runtimes.sketching.names import HIDDEN
from runner.trace.departures import Found, found
from runner.trace.differences import Difference, differences


@dataclass(frozen=True)
class Graph:
    """A configuration in graph mode against the same one in eager mode.

    `letter` is that of the run. `found` has the outputs that hooks see in graph mode: the graph's
    boundaries, and what is computed before it. `unseen` are the modules inside of the graph, by
    phase: hooks can run in prefill and not in decode. If graph mode could not be traced, `failed`
    says why. `measured` says whether the noise was measured with this data type; otherwise it is
    what rounding does.
    """

    letter: str
    found: Found | None
    unseen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: str = ""
    measured: bool = True

    @property
    def departs(self) -> bool:
        return self.found is not None and self.found.first is not None


def graph(
    letter: str,
    eager: Sketches,
    traced: Sketches,
    noise: Sequence[Difference],
    measured: bool = True,
) -> Graph:
    """Compare the traces of one configuration in eager and in graph mode.

    All modules inside of the graph can round in another way, which counts as noise behind them.
    """
    names, places, seen = eager.names.tolist(), _outputs(eager), _outputs(traced)
    unseen = {
        phase: [place for name, place in places[phase].items() if name not in seen[phase]]
        for phase in PHASES
        if places[phase]
    }
    judged = found(differences(eager, traced), noise, unseen=unseen)
    hidden = {phase: tuple(names[place] for place in each) for phase, each in unseen.items()}
    return Graph(letter, judged, hidden, measured=measured)


def _outputs(sketches: Sketches) -> dict[str, dict[str, int]]:
    """The modules with outputs in each phase, and their places."""
    names = sketches.names.tolist()
    return {
        phase: {names[place]: place for place in np.unique(sketches.module[own]).tolist()}
        for phase, own in ((each, sketches.phase == code) for code, each in enumerate(PHASES))
    }


def modules(all_differences: Sequence[Difference]) -> list[Difference]:
    """The differences of modules: the final hidden states repeat the last norm's output."""
    return [each for each in all_differences if each.module != HIDDEN]
