"""What faults do to the mixture-of-experts canary: its tables in docs/canary.md.

    python -m benchmarks.canary_moe_faults            prints the tables
    python -m benchmarks.canary_moe_faults --write    writes them into the page, between its markers

The last table says from how many questions each rule finds each fault, as in docs/verdict.md. It
takes two minutes of processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch

from benchmarks.canary_faults import PAGE, inserted
from benchmarks.detection import ENGLISH, cells, summary
from benchmarks.detection_stacks import Stack, stack_of
from benchmarks.healthy_stacks import healthy_stacks
from runner.canary.damage import tables
from runner.canary.fault import Fault
from runner.canary.faults import arithmetic
from runner.canary.moe.damage import Bench
from runner.canary.moe.faults import moe_faults

BEGIN = "<!-- written by python -m benchmarks.canary_moe_faults --write -->\n"


def stacks(bench: Bench) -> Iterator[Stack]:
    """The reference, its noise runs, a healthy stack and those with a fault."""
    for fault in (*healthy_stacks(), *moe_faults()):
        yield _stack(bench, fault)


def _stack(bench: Bench, fault: Fault) -> Stack:
    forced, right = bench.force(fault)
    return stack_of(fault.name, forced, forced.kinds, right.right.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench()
    damages = list(map(bench.measure, [*arithmetic(), *moe_faults()]))
    found = summary(cells(stacks(bench)), ENGLISH)
    text = f"{tables(damages)}\n### Detection by each rule\n\n{found}"
    if given.write:
        PAGE.write_text(inserted(PAGE.read_text("utf-8"), text, BEGIN), encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
