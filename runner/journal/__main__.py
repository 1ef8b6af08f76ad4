"""python -m runner.journal: list and prune the journal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from runner.journal.attempts import Attempt, attempts, prune

HELP = """\
Lists the attempts whose answers are kept for a later attempt, or removes some of them. The file of
a running attempt is never touched.

Exit status: 0 done · 1 usage error
"""
WRONG = 1
GIB, DAY_S = 2**30, 86400.0


def main(arguments: list[str] | None = None) -> int:
    """List or prune the journal; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.journal",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=("list", "prune"), default="list")
    parser.add_argument("--dir", type=Path, default=Path("journal"), help="the runs' journal.dir")
    parser.add_argument(
        "--max-gib",
        type=_amount,
        help="prune: remove the oldest attempts until at most this much is left (0: remove all)",
    )
    parser.add_argument(
        "--older-than", type=_amount, metavar="DAYS", help="prune: remove attempts older than this"
    )
    try:
        given = parser.parse_args(arguments)
        pruning = given.max_gib is not None or given.older_than is not None
        if pruning != (given.command == "prune"):
            parser.error("prune needs --max-gib or --older-than, and list takes neither")
    except SystemExit as error:
        return WRONG if error.code else 0
    found = attempts(given.dir)
    if given.command == "list":
        _show(found)
        return 0
    most = float("inf") if given.max_gib is None else given.max_gib * GIB
    oldest = 0.0 if given.older_than is None else time.time() - given.older_than * DAY_S
    removed = prune(found, most, oldest)
    for each in removed:
        print(f"removed {each.file} ({_size(each.size)})")
    print(f"{len(removed)} of {len(found)} attempts removed")
    return 0


def _amount(text: str) -> float:
    amount = float(text)
    if not amount >= 0:
        raise ValueError("negative")
    return amount


def _show(found: list[Attempt]) -> None:
    for each in found:
        changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.changed))
        print(f"{each.state:8} {changed} {_size(each.size):>10}  {each.file}")
    print(f"{len(found)} attempts, {_size(sum(each.size for each in found))}")


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
