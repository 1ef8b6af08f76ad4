"""Shows a search in a terminal while it runs: a tree of its levels, and what it has found."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text
from rich.tree import Tree

from runner.channel.worker import (
    EngineStarted,
    Progress,
    Retry,
    StageBegun,
    Waiting,
    WorkerStarted,
    read_events,
)
from runner.report.progress import PREPARING, STAGES, STARTING_WORKER
from runner.rundir import RunDirectory
from runner.visible import visible
from runner.why import findings
from runner.why.found import Ask, Found, Level, Probe
from runner.why.ladder import SCORES, Tried
from runner.why.probes import PROBES, Runs
from runner.why.result import lines
from runner.why.screen import decided
from runner.why.search import MORE
from runner.why.switches import Switch

CHECKING = "checking"
WAITING, ANSWERED, UNNEEDED, STOPPED = "waiting", "answered", "unneeded", "stopped"
# Lines of the terminal that are left for what is printed above the tree.
ABOVE = 2
# Width of the lines before a probe, and how its own is broken if it is too long.
GUIDE = 4
BROKEN = ";\n" + 10 * " "


@dataclass
class Leaf:
    """A probe or a rung, and what became of it."""

    ask: Ask
    spinner: Spinner
    result: Probe | Tried | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its runs, the last one first."""
        return tuple(f"{self.ask.name}{each}" for each in (SCORES, MORE, ""))


@dataclass
class Branch:
    """A level of the search. `left` says why what has no result is not asked any more."""

    title: str
    leaves: list[Leaf]
    left: str = ""


class SearchTree:
    """Shows the levels of a search; use it as a context manager to restore the terminal."""

    def __init__(self, out: Console, runs: Runs, place: Path) -> None:
        self._runs, self._place = runs, place
        self._began = time.time()
        self._branches: list[Branch] = []
        self._found = Found()
        self._switches: Sequence[Switch] = ()
        self._ended = False
        self._live = Live(self, console=out, refresh_per_second=4)

    def __enter__(self) -> SearchTree:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._leave(UNNEEDED if kind is None else STOPPED)
        self._ended = True
        self._live.stop()

    def ahead(self, levels: Sequence[Level]) -> None:
        """Add the levels that are asked next."""
        self._leave(UNNEEDED)
        self._branches += [
            Branch(each.title, [Leaf(ask, Spinner("dots")) for ask in each.asks]) for each in levels
        ]

    def follow(self, found: Found, switches: Sequence[Switch]) -> None:
        """Show the causes in `found`, which grows with the search."""
        self._found, self._switches = found, switches

    def tried(self, tried: Tried) -> None:
        """Show what became of a rung."""
        leaves = (each for branch in self._branches for each in branch.leaves)
        leaf = next((each for each in leaves if each.ask.purpose == tried.rung.change), None)
        if leaf is None:  # ruled out without a run
            leaf = Leaf(Ask("", tried.rung.change, {}), Spinner("dots"))
            self._branches[-1].leaves.append(leaf)
        leaf.result = tried

    def tell(self, probe: Probe) -> None:
        """Show what a probe showed."""
        leaves = [each for branch in self._branches for each in branch.leaves]
        leaf = next(each for each in reversed(leaves) if probe.name in each.names)
        leaf.result = probe

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tree; while it is live, levels that ended are one line if there is no room."""
        # The console itself wraps no lines, so that commands can be copied.
        options = options.update(no_wrap=False, overflow="fold", height=None)
        tree = self._tree(0, options.max_width)
        if not self._ended:
            for short in range(len(self._branches)):
                height = len(console.render_lines(tree, options, pad=False))
                if height <= console.height - ABOVE:
                    break
                tree = self._tree(short + 1, options.max_width)
        yield from console.render(tree, options)

    def _leave(self, why: str) -> None:
        for each in self._branches:
            each.left = each.left or why

    def _tree(self, short: int, width: int) -> Tree:
        tree = Tree("", hide_root=True)
        running = self._runs.running
        for number, branch in enumerate(self._branches):
            title = Text(branch.title, "bold")
            if number < short and branch.left:
                tree.add(title.append(f": {_counts(branch)}", "not bold"))
                continue
            below = tree.add(title)
            for leaf in branch.leaves:
                below.add(self._label(leaf, branch.left, running, width - GUIDE))
        for number, cause in enumerate(self._found.causes, 1):
            changes = "; ".join(" + ".join(lines(self._switches[each])) for each in cause.switches)
            tree.add(Text.assemble((f"found cause {number}: ", "bold red"), visible(changes)))
        return tree

    def _label(self, leaf: Leaf, left: str, running: Collection[str], width: int) -> RenderableType:
        if isinstance(leaf.result, Probe):
            text = decided(leaf.result)
            return text if text.cell_len <= width else decided(leaf.result, BROKEN)
        purpose = leaf.ask.purpose
        if leaf.result is not None:
            return Text(f"{purpose}: {leaf.result.said}", "green" if leaf.result.good else "")
        name = next((each for each in leaf.names if each in running), "")
        files = RunDirectory(self._place / PROBES / (name or leaf.ask.name))
        if name and not left:
            leaf.spinner.text = Text(f"{purpose}: {self._state(files)}")
            return leaf.spinner
        word = left or (ANSWERED if files.verdict.is_file() else WAITING)
        return Text(f"{word:<9} {purpose}", "dim")

    def _state(self, files: RunDirectory) -> str:
        """What the engine of a running probe does."""
        state = CHECKING
        for event in read_events(files.events):
            if event.time < self._began:  # of an attempt that was interrupted before
                continue
            match event:
                case WorkerStarted() | Retry():
                    state = STARTING_WORKER
                case StageBegun(stage):
                    state = STAGES[stage]
                case EngineStarted():
                    state = PREPARING
                case Progress(done=done, total=total):
                    state = f"{done}/{total} requests"
                case Waiting(said):
                    state = visible(said)
        return state


def _counts(branch: Branch) -> str:
    """`1 differs, 1 agrees`."""
    words = [
        findings.WORDS[each.result.state] if isinstance(each.result, Probe) else branch.left
        for each in branch.leaves
        if not isinstance(each.result, Tried)
    ]
    if not words:
        return f"{len(branch.leaves)} tried"
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())
