"""Measures the faults of tests/planted: a replay with each fault's settings, with it and without.

    python -m benchmarks.planted_faults [--limit 40]

Prints the RMS of the log-probabilities' differences from the sound run, in nats, and the mean
variance of the logits' differences from its replay, in nats². The first columns are with all faults
planted, so only the settings choose among them; the last are with none. Starts 22 engines, which
takes seven minutes on a quiet machine with two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many_questions import timed
from runner.evidence.pairing import pair
from runner.evidence.replayed import differences
from runner.evidence.samples import read_samples
from tests.planted.settings import FAULTS, HEALTHY, ROUNDING, SOUND, variables

CAUSES = {
    **FAULTS,
    "tp2_scale + prefix_bias": FAULTS["tp2_scale"] + FAULTS["prefix_bias"],
    "vision1, all of HEALTHY": FAULTS["vision1"] + HEALTHY,
    "none, half of chunked_rope": FAULTS["chunked_rope"][:1],
    "none, its other half": FAULTS["chunked_rope"][1:],
    "none, all of HEALTHY": HEALTHY,
    "none, ROUNDING": ROUNDING,
}
NEAR_TIE = 0.05
PLANTED = re.compile(r"planted (\w+) in ")


@dataclass(frozen=True)
class Bench:
    """Runs of the canary in a folder; the first of them are `sound` and `same`, its replay."""

    folder: Path
    limit: int

    def run(self, name: str, faults: Sequence[str], *overrides: str) -> Path:
        """Run with these planted faults; returns the run's directory."""
        directory = self.folder / name
        settings = ["tracking=off", "journal.enabled=false", f"task.limit={self.limit}"]
        words = [sys.executable, "-m", "runner", *settings, f"output_dir={directory}", *SOUND]
        named = {"OMP_NUM_THREADS": "1", **variables(*faults)}
        timed([*words, *overrides], self.folder, named)
        return directory

    def replay(self, name: str, faults: Sequence[str], *overrides: str) -> Path:
        reference = f"verdict.reference={self.folder / 'sound'}"
        return self.run(name, faults, "verdict=replay", reference, *overrides)

    def moved(self, base: str, directory: Path, measure: str) -> float:
        first, second = (
            read_samples(each / "samples.parquet") for each in (self.folder / base, directory)
        )
        return differences(pair(first, second).pairs, NEAR_TIE).mean(measure)

    def row(self, directory: Path) -> str:
        """RMS, variance of the logits, seconds until the engine was ready."""
        rms = math.sqrt(self.moved("sound", directory, "squared"))
        logits = self.moved("same", directory, "logits")
        timings = json.loads((directory / "outcome.json").read_text())["timings"]
        return f"{rms:.2g} | {logits:.2g} | {timings['start_engine_s']:.0f} s"


def planted(directory: Path) -> str:
    """The faults that the engine's processes reported, once for each rank."""
    return ", ".join(PLANTED.findall((directory / "engine.log").read_text())) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, default=40, help="questions of each kind")
    limit = parser.parse_args().limit
    print("| settings of | planted | RMS | logits | start | RMS without | logits | start |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), limit)
        sound = bench.run("sound", list(FAULTS))
        same = bench.replay("same", list(FAULTS))
        print(f"| SOUND | {planted(sound)} | {bench.row(same)} | | | |", flush=True)
        for number, (name, overrides) in enumerate(CAUSES.items()):
            faulty = bench.replay(f"{number}_with", list(FAULTS), *overrides)
            row = f"| {name} | {planted(faulty)} | {bench.row(faulty)}"
            if not name.startswith("none"):
                row += f" | {bench.row(bench.replay(f'{number}_without', [], *overrides))}"
            else:
                row += " | | |"
            print(f"{row} |", flush=True)


if __name__ == "__main__":
    main()
