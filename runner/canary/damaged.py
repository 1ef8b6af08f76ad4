"""Writes a damaged copy of the canary: ``python -m runner.canary.damaged FAULT DIR``.

Evaluate the copy to see whether your gate detects the fault:
``python -m runner model=canary_vl model.pretrained=DIR``. ``--help`` lists the faults.
"""

import argparse
from pathlib import Path

from runner.canary import WEIGHTS
from runner.canary.checkpoint import Checkpoint
from runner.canary.fault import Fault
from runner.canary.faults import file_faults


def write_damaged(fault: Fault, out: Path, source: Path = WEIGHTS) -> None:
    """Write a copy of ``source`` with ``fault`` to ``out``.

    Raises FileExistsError if ``out`` exists, and ValueError if the fault isn't in files.
    """
    if fault.edit is None:
        raise ValueError(f"the fault isn't in the files of a model: {fault.name}")
    checkpoint = Checkpoint.read(source)
    fault.edit(checkpoint)
    checkpoint.write(source, out)


def main() -> None:
    """Run the command line."""
    faults = file_faults()
    listed = "\n".join(f"  {key}\n      {fault.reality}" for key, fault in faults.items())
    parser = argparse.ArgumentParser(
        prog="python -m runner.canary.damaged",
        description=__doc__.partition("\n")[0],
        epilog=f"faults:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fault", metavar="FAULT", help="one of the faults below")
    parser.add_argument("out", metavar="DIR", type=Path, help="a new directory for the copy")
    given = parser.parse_args()
    if given.fault not in faults:
        parser.error(f"FAULT: there is no fault {given.fault!r}. List them with --help.")
    try:
        write_damaged(faults[given.fault], given.out)
    except FileExistsError:
        parser.error(f"DIR: {given.out} exists. Choose a new directory or remove it.")


if __name__ == "__main__":
    main()
