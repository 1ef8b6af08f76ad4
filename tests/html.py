"""A page that the runner wrote, read as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "circle", "line", "input"}


class Page(HTMLParser):
    """The elements of a page, each opened and closed; what it would load or run.

    Fails where an element is not closed, a table's heading has no scope, an image has no
    description, or an id is given twice.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str | None] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        assert tag != "th" or given.get("scope") in ("col", "row", "colgroup", "rowgroup")
        assert tag != "img" or given.get("alt")
        assert given.get("id") is None or given["id"] not in self.ids
        self.ids.append(given.get("id"))
        assert not any(name.startswith("on") for name in given)
        self.loads += [str(given[name]) for name in ("src", "href") if name in given]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
