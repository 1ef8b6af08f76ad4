"""How often the likely cause of a FAILED `replay` is right about faults that it has never seen.

    python -m benchmarks.cause --traces FILE            prints the table
    python -m benchmarks.cause --traces FILE --write    writes cause.json and docs/canary.md

The traces are read from FILE; if it doesn't exist, they are measured and written to it. That takes
half an hour on one core, the rest a few minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.canary_faults import inserted
from benchmarks.cause_faults import DECODE, IMAGES, MODEL, ORDER, PROMPT, SCALE
from benchmarks.cause_stacks import Stack, measured
from runner.evidence.signature import Signature, Trace, signature
from runner.verdict.cause import PRECISION, HeldOut, Limits, class_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "canary.md"
STORED = ROOT / "runner" / "verdict" / "cause.json"
BEGIN = "<!-- written by python -m benchmarks.cause --write -->\n"
SIZES = (50, 100, 300)
RUNS = 8
SEED = 20261130
# Names that are right for a fault of each class. Mixed-up images are images as well, and a prompt
# can't be told from the language model that reads it.
RIGHT = {
    IMAGES: (IMAGES,),
    ORDER: (ORDER, IMAGES),
    DECODE: (DECODE,),
    SCALE: (SCALE,),
    MODEL: (MODEL,),
    PROMPT: (MODEL,),
}
NAMES = (IMAGES, ORDER, DECODE, SCALE, MODEL)
GRID = [
    Limits(quiet, contrast, scaled)
    for quiet, contrast, scaled in itertools.product(
        (1.5, 2.0, 2.5, 3.0, 4.0), (10.0, 5.0, 3.0, 2.0), (0.9, 0.8, 0.7, 0.6, 0.5)
    )
]


@dataclass(frozen=True)
class Case:
    """A fault and draws of questions on which `replay` fails it, of one mixture of questions."""

    name: str
    label: str
    family: str
    mixture: str
    found: Sequence[Signature]


@dataclass(frozen=True)
class Named:
    """Shares of a fault's draws that got each name, by limits that were fitted without it."""

    case: Case
    shares: Mapping[str | None, float]


def mixtures(images: Sequence[int]) -> dict[str, list[int]]:
    """Indices of the questions of each mixture."""
    every = range(len(images))
    return {
        "both": list(every),
        "images": [i for i in every if images[i]],
        "text": [i for i in every if not images[i]],
    }


def cases(stacks: Iterable[Stack], noise: Sequence[Trace]) -> Iterator[Case]:
    """Draw questions; also those on which `replay` would not fail, which makes it harder."""
    for stack in stacks:
        for mixture, pool in mixtures([each.images for each in noise]).items():
            generator = np.random.default_rng(SEED)
            found = []
            for size in SIZES * RUNS:
                if size > len(pool):
                    continue
                asked = generator.choice(pool, size, replace=False)
                own, theirs = [stack.traces[i] for i in asked], [noise[i] for i in asked]
                found.append(signature(own, theirs))
            if found:
                yield Case(stack.name, stack.label, stack.family, mixture, found)


def gain(case: Case, limits: Limits) -> float:
    """Share of right names, less what a wrong one costs if PRECISION is to be worth it."""
    cost = PRECISION / (1 - PRECISION)
    names = [class_of(each, limits) for each in case.found]
    right = sum(name in RIGHT[case.label] for name in names)
    wrong = sum(name is not None for name in names) - right
    return (right - cost * wrong) / len(names)


def fitted(gains: Mapping[str, np.ndarray], without: str = "") -> Limits:
    """The limits with the largest gain over all families but one; the strictest of equal ones."""
    total = sum(each for family, each in gains.items() if family != without)
    return GRID[int(np.argmax(np.round(total, 9)))]


def validated(found: Sequence[Case]) -> tuple[Limits, list[Named]]:
    """The limits fitted to everything, and what is named if a fault's family is held out."""
    gains: dict[str, np.ndarray] = {}
    for case in found:
        own = np.array([gain(case, limits) for limits in GRID])
        gains[case.family] = gains.get(case.family, 0) + own
    held = {family: fitted(gains, family) for family in gains}
    named = []
    for case in found:
        names = [class_of(each, held[case.family]) for each in case.found]
        named.append(Named(case, {name: names.count(name) / len(names) for name in (*NAMES, None)}))
    return fitted(gains), named


def held_out(named: Sequence[Named], name: str) -> HeldOut:
    """Precision of a name over faults of equal weight, in the mixture where it is lowest."""
    precisions = []
    for mixture in dict.fromkeys(n.case.mixture for n in named):
        own = [n for n in named if n.case.mixture == mixture]
        right = sum(n.shares[name] for n in own if name in RIGHT[n.case.label])
        total = sum(n.shares[name] for n in own)
        precisions += [right / total] if total else []
    faults = {n.case.name for n in named if n.shares[name]}
    return HeldOut(round(min(precisions, default=0.0), 3), len(faults))


CLASSES = {
    IMAGES: "images",
    ORDER: "several images",
    DECODE: "decode step",
    SCALE: "logit scale",
    MODEL: "language model",
    PROMPT: "prompt",
}
MIXTURES = {"both": "both", "images": "with images", "text": "text only"}


def tables(named: Sequence[Named], limits: Limits) -> str:
    """The confusion table and the precisions, in Markdown."""
    rows = []
    for label, mixture in itertools.product(RIGHT, MIXTURES):
        own = [n for n in named if (n.case.label, n.case.mixture) == (label, mixture)]
        if own:
            shares = [sum(n.shares[name] for n in own) / len(own) for name in (*NAMES, None)]
            heads = [CLASSES[label], MIXTURES[mixture], str(len(own))]
            rows.append([*heads, *(f"{100 * share:.0f}" for share in shares)])
    heads = ["fault in", "questions", "faults", *(CLASSES[name] for name in NAMES), "nothing"]
    precisions = []
    for name in NAMES:
        own_held = held_out(named, name)
        shown = "yes" if own_held.precision >= PRECISION else "no"
        share = f"{100 * own_held.precision:.1f}"
        precisions.append([CLASSES[name], share, str(own_held.faults), shown])
    used = (
        f"Limits: quiet {limits.quiet:g}, contrast {limits.contrast:g}, scaled {limits.scaled:g}.\n"
    )
    precision = _table(["class", "right, %", "faults so classed", "shown"], precisions)
    return "\n".join((_table(heads, rows), precision, used))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def stacks(file: Path) -> list[Stack]:
    """The stacks stored in `file`, which is written if it doesn't exist."""
    if not file.exists():
        file.write_text(json.dumps([asdict(each) for each in measured()]), encoding="utf-8")
    stored = json.loads(file.read_text(encoding="utf-8"))
    return [
        Stack(**{**each, "traces": [Trace(**trace) for trace in each["traces"]]}) for each in stored
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=Path, required=True, metavar="FILE")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    noise, *others = stacks(given.traces)
    faults = [each for each in others if each.label]
    limits, named = validated(list(cases(faults, noise.traces)))
    if not given.write:
        print(tables(named, limits), end="")
        return
    stored = {
        "limits": asdict(limits),
        "held_out": {name: asdict(held_out(named, name)) for name in NAMES},
    }
    STORED.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(inserted(page, tables(named, limits), BEGIN), encoding="utf-8")


if __name__ == "__main__":
    main()
