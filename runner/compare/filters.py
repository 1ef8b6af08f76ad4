"""Filters for flipped answers in plain HTML and CSS: they work where scripts are turned off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.compare.shown import Shown


@dataclass(frozen=True)
class Option:
    """A choice of a filter: CSS class of the matching cards, name and number of matches."""

    mark: str
    name: str
    n: int


@dataclass(frozen=True)
class Filter:
    """One list of choices and its id on the page."""

    key: str
    label: str
    options: tuple[Option, ...]


def filters(flips: Sequence[Shown]) -> tuple[list[Filter], list[str]]:
    """Return filters with at least two choices, and the CSS classes of each flip."""
    by: list[tuple[str, str, Callable[[Shown], str]]] = [
        ("direction", "Direction", direction),
        ("kind", "Cause", lambda each: each.change.kind.value),
        ("task", "Task", lambda each: each.task),
    ]
    found = []
    marks: list[list[str]] = [[] for _ in flips]
    for key, label, of in by:
        names = [of(each) for each in flips]
        known = {name: f"{key}{place}" for place, name in enumerate(dict.fromkeys(names))}
        if len(known) < 2:
            continue
        options = (Option(mark, name, names.count(name)) for name, mark in known.items())
        found.append(Filter(key, label, tuple(options)))
        for own, name in zip(marks, names, strict=True):
            own.append(known[name])
    return found, [" ".join(own) for own in marks]


def direction(flip: Shown) -> str:
    return "B is better" if flip.better > 0 else "B is worse"
