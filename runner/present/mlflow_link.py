"""The link from report.html to the run in MLflow, inserted after the upload."""

from __future__ import annotations

from html import escape

# Markers on the page; the link goes between them.
START, END = "<!--MLflow-->", "<!--/MLflow-->"


def linked(page: str, address: str, command: str) -> str:
    """Return the page with the link inserted or replaced; without markers it is unchanged.

    `command` starts the server that the link needs; it is empty for a remote server.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        return page
    first = f" (first run <code>{escape(command)}</code>)" if command else ""
    link = f'<a href="{escape(address)}">This run in MLflow</a>{first}'
    return f'{before}{start}<div class="small soft">{link}</div>{end}{after}'
