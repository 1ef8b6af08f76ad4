"""Writes a damaged copy of the canary: ``python -m runner.canary.damaged FAULT DIR``.

Evaluate the copy to see whether your gate detects the fault:
``python -m runner model=canary_vl model.pretrained=DIR``. ``--help`` lists the faults, and which
of the two models each belongs to.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from runner.canary import WEIGHTS, moe
from runner.canary.checkpoint import Checkpoint
from runner.canary.fault import Fault
from runner.canary.faults import file_faults
from runner.canary.moe.faults import moe_faults


def write_damaged(fault: Fault, out: Path, source: Path = WEIGHTS) -> None:
    """Write a copy of ``source`` with ``fault`` to ``out``.

    Raises FileExistsError if ``out`` exists, and ValueError if the fault isn't in files.
    """
    if fault.edit is None:
        raise ValueError(f"the fault isn't in the files of a model: {fault.name}")
    checkpoint = Checkpoint.read(source)
    fault.edit(checkpoint)
    checkpoint.write(source, out)


def _listed(model: str, faults: Iterable[Fault]) -> str:
    lines = "\n".join(f"  {fault.key}\n      {fault.reality}" for fault in faults)
    return f"faults of {model}:\n{lines}"


def main() -> None:
    """Run the command line."""
    vision, experts = file_faults().values(), moe_faults()
    parser = argparse.ArgumentParser(
        prog="python -m runner.canary.damaged",
        description=__doc__.partition("\n")[0],
        epilog=f"{_listed('canary_vl', vision)}\n\n{_listed('canary_moe', experts)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fault", metavar="FAULT", help="one of the faults below")
    parser.add_argument("out", metavar="DIR", type=Path, help="a new directory for the copy")
    given = parser.parse_args()
    sources = {each.key: (each, WEIGHTS) for each in vision}
    sources |= {each.key: (each, moe.WEIGHTS) for each in experts}
    if given.fault not in sources:
        parser.error(f"FAULT: there is no fault {given.fault!r}. List them with --help.")
    fault, weights = sources[given.fault]
    try:
        write_damaged(fault, given.out, weights)
    except FileExistsError:
        parser.error(f"DIR: {given.out} exists. Choose a new directory or remove it.")


if __name__ == "__main__":
    main()
