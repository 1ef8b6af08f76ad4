"""The link from report.html to the run in MLflow, which is known when the run has been sent."""

from __future__ import annotations

from html import escape

# The page has both, and the link between them.
START, END = "<!--MLflow-->", "<!--/MLflow-->"


def linked(page: str, address: str, command: str) -> str:
    """The page with the link; one that it had before is replaced, and a page without the place for
    it stays as it is.

    `command` is what must run for the link to work, empty where a server is always there.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        return page
    first = f", once this runs: <code>{escape(command)}</code>" if command else ""
    link = f'<a href="{escape(address)}">This run in MLflow</a>{first}'
    return f'{before}{start}<div class="small soft">{link}</div>{end}{after}'
