"""What graph mode changes: the outputs outside of the graph, in graph mode and in eager mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.evidence.sketches import Sketches
from runner.runtimes.sketching.names import HIDDEN
from runner.trace.departures import Found, found
from runner.trace.differences import Difference, differences


@dataclass(frozen=True)
class Graph:
    """A configuration in graph mode against the same one in eager mode.

    `letter` is that of the run. `found` has the outputs that hooks see in graph mode: the graph's
    boundaries, and what is computed before it. `unseen` are the modules inside of the graph. If
    graph mode could not be traced, `failed` says why. `measured` says whether the noise was
    measured with this data type; otherwise it is what rounding does.
    """

    letter: str
    found: Found | None
    unseen: tuple[str, ...] = ()
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
    names, seen = eager.names.tolist(), set(traced.names.tolist())
    unseen = [place for place, name in enumerate(names) if name not in seen]
    judged = found(differences(eager, traced), noise, unseen=unseen)
    return Graph(letter, judged, tuple(names[place] for place in unseen), measured=measured)


def modules(all_differences: Sequence[Difference]) -> list[Difference]:
    """The differences of modules: the final hidden states repeat the last norm's output."""
    return [each for each in all_differences if each.module != HIDDEN]
