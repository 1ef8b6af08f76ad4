"""Whether python -m runner.why finds the planted faults of tests/planted among other settings.

    python -m benchmarks.why_planted [--only mlp2 healthy] [--limit 10] [--write]

Each row compares a sound run of the canary with one that has a fault's settings and others, drawn
at random from those without an effect, 12 in all. All faults are planted in both runs, so only the
settings choose among them. Whether a row is right is decided by the keys of its causes.
With --write, the table replaces the one in docs/why.md. Starts about 120 engines, which takes half
an hour on a quiet machine with two cores.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.canary_faults import inserted
from benchmarks.many_questions import timed
from runner.rundir import read_json
from runner.why.result import Origin, Why
from tests.planted.settings import FAULTS, HEALTHY, PLACES, ROUNDING, SOUND, variables

PAGE = Path(__file__).parent.parent / "docs" / "why.md"
BEGIN = "<!-- written by python -m benchmarks.why_planted --write -->\n"
SEED = 20261201
SETTINGS = 12
# Rows in which two of the drawn settings are one switch, as they only change together.
ONE_MORE = ("prefix_bias", "mlp2", "healthy")
# Probes' engines besides those of the search for one cause (runner/why/cost.py).
BESIDES = 4
HEAD = """\
| settings of | differ | causes found | first module | right | probes | starts | at most | minutes |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Row:
    """A search: the bad run's settings, the planted faults, and which settings each cause has."""

    name: str
    settings: tuple[str, ...]
    planted: tuple[str, ...]
    causes: tuple[tuple[str, ...], ...] = ()


def rows() -> Iterator[Row]:
    """Return all rows; the random settings of each are the same in every call."""
    every = tuple(FAULTS)
    for fault in every:
        yield _row(fault, FAULTS[fault], every, (FAULTS[fault],))
    two = FAULTS["mlp2"], FAULTS["prefix_bias"]
    yield _row("mlp2, prefix_bias", two[0] + two[1], every, two)
    yield _row("healthy", (), every)
    yield Row("healthy, all of them", HEALTHY, every)
    yield _row("healthy, bfloat16", ROUNDING, every)
    others = tuple(each for each in every if each != "tp2_scale")
    yield _row("healthy, two ranks", FAULTS["tp2_scale"], others)


def _row(
    name: str,
    settings: tuple[str, ...],
    planted: tuple[str, ...],
    causes: tuple[tuple[str, ...], ...] = (),
) -> Row:
    wanted = SETTINGS - len(settings) + (name in ONE_MORE)
    drawn = random.Random(f"{SEED} {name}").sample(HEALTHY, wanted)
    return Row(name, (*settings, *drawn), planted, causes)


@dataclass(frozen=True)
class Bench:
    """Runs in a folder, with `limit` questions of each of the canary's kinds."""

    folder: Path
    limit: int

    def measure(self, row: Row) -> tuple[str, bool]:
        """Run a row's search; returns its line of the table, and whether it was right."""
        place = self.folder / row.name.replace(",", "").replace(" ", "-")
        good = self._run(f"{place.name}-good", row, ())
        bad = self._run(f"{place.name}-bad", row, row.settings)
        named = _variables(row)
        words = [sys.executable, "-m", "runner.why", str(good), str(bad), "--output", str(place)]
        seconds = timed(words, self.folder, named)
        why: Why = read_json(place / "why.json", Why)
        found = [
            _keys(each for n in one.switches for each in why.switches[n]) for one in why.causes
        ]
        # Nothing is right only if the whole was measured.
        measured = why.whole is not None and why.whole.state.value != "unresolved"
        expected = [_keys(each, "=") for each in row.causes]
        right = measured and sorted(map(sorted, found)) == sorted(map(sorted, expected))
        modules = dict(zip(map(frozenset, found), map(_module, why.origins), strict=True))
        right = right and all(
            modules[frozenset(_keys(each, "="))].startswith(PLACES[_fault(each)])
            for each in row.causes
        )
        said = "; ".join(" + ".join(f"`{key}`" for key in sorted(one)) for one in found) or "none"
        starts = _most_starts(len(why.switches)) if len(row.causes) == 1 else None
        cells = (
            *(row.name, len(why.switches), said, ", ".join(modules.values())),
            "yes" if right else "**no**",
            *(len(why.probes), why.starts, starts or "", f"{seconds / 60:.1f}"),
        )
        return f"| {' | '.join(map(str, cells))} |", right

    def _run(self, name: str, row: Row, settings: Sequence[str]) -> Path:
        directory = self.folder / name
        asked = ["tracking=off", "journal=off", f"task.limit={self.limit}", *SOUND, *settings]
        words = [sys.executable, "-m", "runner", f"output_dir={directory}", *asked]
        timed(words, self.folder, _variables(row))
        return directory


def _module(origin: Origin) -> str:
    """The module that a trace names; empty if it names none."""
    found = origin.trace.found if origin.trace is not None else None
    return found.first.module if found is not None and found.first is not None else ""


def _fault(settings: tuple[str, ...]) -> str:
    return next(name for name, each in FAULTS.items() if each == settings)


def _variables(row: Row) -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1", **variables(*row.planted)}


def _keys(changes: Sequence[str] | Iterator[str], end: str = ":") -> set[str]:
    return {each.partition(end)[0] for each in changes}


def _most_starts(switches: int) -> int:
    return 2 * math.ceil(math.log2(switches)) + BESIDES


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="ROW", help="names of rows (default: all)")
    parser.add_argument("--limit", type=int, default=10, help="questions of each kind")
    parser.add_argument("--write", action="store_true", help="write the table to docs/why.md")
    given = parser.parse_args()
    chosen = [each for each in rows() if given.only is None or each.name in given.only]
    lines = [HEAD]
    print(HEAD, flush=True)
    rights = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.limit)
        for row in chosen:
            line, right = bench.measure(row)
            rights += right
            lines.append(line)
            print(line, flush=True)
    total = f"{rights} of {len(chosen)} are right."
    print(f"\n{total}")
    if given.write:
        text = "\n".join([*lines, "", total])
        PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), text, BEGIN), encoding="utf-8")


if __name__ == "__main__":
    main()
