"""What faults do to the canary: the tables in docs/canary.md.

    python -m benchmarks.canary_faults            prints the tables
    python -m benchmarks.canary_faults --write    writes them into the page, between its markers

It takes five minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.canary.damage import measured, tables

PAGE = Path(__file__).parent.parent / "docs" / "canary.md"
BEGIN = "<!-- written by python -m benchmarks.canary_faults --write -->\n"
END = "<!-- end of what the command writes -->\n"


def inserted(page: str, text: str, begin: str = BEGIN) -> str:
    """``page`` with ``text`` between the markers. Raises ValueError if a marker is missing."""
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(
            f"the page has no line {begin.strip()!r}, or none {END.strip()!r} after it"
        )
    return f"{before}{begin}\n{text}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    text = tables(list(measured()))
    if given.write:
        PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
