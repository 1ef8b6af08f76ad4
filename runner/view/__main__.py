"""python -m runner.view RUN: serves the report of a run with all of its texts and images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runner import language
from runner.commands import add_language, perform
from runner.status import USAGE_ERROR

HELP = """\
Serves the report of a run on this machine (127.0.0.1) until you press Ctrl-C. Unlike report.html,
which has to be one small file, it shows all texts and images whole. RUN is a run directory.

To read it from another machine, forward the port: ssh -L PORT:127.0.0.1:PORT HOST

Examples
  python -m runner.view outputs/2026-11-25/10-00-00
  python -m runner.view outputs/2026-11-25/10-00-00 --port 8080

Exit status: 0 stopped with Ctrl-C · 1 usage error · 2 the report could not be made
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.view",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the run directory")
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on (default: one that is free)"
    )
    add_language(parser)
    try:
        given = parser.parse_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    language.use(given.lang)
    return perform(lambda: _view(given.run, given.port), "report")


def _view(directory: Path, port: int) -> int:
    from runner.view.pages import read_pages
    from runner.view.server import listen

    with listen(port) as server:
        server.pages = read_pages(directory)
        try:
            print(f"http://127.0.0.1:{server.server_port}/ (stop with Ctrl-C)", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
