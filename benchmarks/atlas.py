"""From how many questions each rule finds each fault of the canary: a table in docs/canary.md.

    python -m benchmarks.atlas            prints the table
    python -m benchmarks.atlas --write    writes it into the page, between its markers

A run is a random draw of the canary's 600 questions. It takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.canary_faults import PAGE, inserted
from benchmarks.detection import ALL, FOUND, RULES, SIZES, draws
from benchmarks.detection_rules import Judged, Reference
from benchmarks.detection_stacks import Stack, measuring
from benchmarks.healthy_stacks import HEALTHY, healthy_stacks
from runner.canary.fault import Fault
from runner.canary.faults import all_faults, arithmetic
from runner.status import Status

BEGIN = "<!-- written by python -m benchmarks.atlas --write -->\n"
RUNS = 100
# Verdicts of a run with all questions that does not fail.
OPEN = {Status.PASSED: "passes", Status.INCONCLUSIVE: "inconclusive"}


def judged(measure: Callable[[Fault], Stack]) -> Iterator[Judged]:
    """The healthy stack, then every fault, compared with the reference.

    A fault of the system message is compared with a reference that has one. It changes the prompts,
    so no noise run is needed: they can't be compared anyway.
    """
    reference, *noise, healthy = healthy_stacks()
    runs = [measure(each) for each in noise]
    references = {"": Reference(measure(reference), runs)}
    for fault in (healthy, *all_faults()[len(arithmetic()) :]):
        if fault.system not in references:
            own = Fault(f"healthy, {fault.system}", "", system=fault.system)
            references[fault.system] = Reference(measure(own), ())
        yield Judged(references[fault.system], measure(fault))


def first(stack: Judged, rule: str, asked: Mapping[int, Sequence[Sequence[int]]]) -> str:
    """The smallest size from which enough runs of every size fail; else the verdict with all."""
    found = ""
    for size in sorted(asked, reverse=True):
        if not _fail(stack, rule, asked[size]):
            break
        found = str(size)
    return found or OPEN[stack.status(rule, asked[ALL][0])]


def _fail(stack: Judged, rule: str, runs: Sequence[Sequence[int]]) -> bool:
    """Whether at least FOUND of the runs fail; it stops as soon as that can't be."""
    spare = math.floor(len(runs) * (1 - FOUND) + 1e-9)
    for asked in runs:
        spare -= stack.status(rule, asked) is not Status.FAILED
        if spare < 0:
            return False
    return True


def table(rows: Mapping[str, Sequence[str]]) -> str:
    """The table in Markdown, from the cells of each stack."""
    heads = ["fault", *(f"`{rule}`" for rule in RULES)]
    lines = [heads, ["---"] * len(heads), *([name, *cells] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    asked = {size: draws(size, RUNS) for size in SIZES}
    rows = {}
    for stack in judged(measuring()):
        name = f"healthy: {HEALTHY}" if stack.name == HEALTHY else stack.name
        rows[name] = [first(stack, rule, asked) for rule in RULES]
        print(name, *rows[name], sep=" | ", file=sys.stderr, flush=True)
    if not given.write:
        print(table(rows), end="")
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(inserted(page, table(rows), BEGIN), encoding="utf-8")


if __name__ == "__main__":
    main()
