"""Filters for flipped answers in plain HTML and CSS: they work where scripts are turned off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from runner.compare.shown import Shown
from runner.language import gettext


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
    by: list[tuple[str, str, Callable[[Shown], Hashable], Callable[[Shown], str]]] = [
        ("direction", gettext("Direction"), lambda each: each.better > 0, direction),
        ("kind", gettext("Cause"), lambda each: each.change.kind, cause),
        ("task", gettext("Task"), lambda each: each.task, lambda each: each.task),
    ]
    found = []
    marks: list[list[str]] = [[] for _ in flips]
    for key, label, of, named in by:
        values = [of(each) for each in flips]
        known = {value: f"{key}{place}" for place, value in enumerate(dict.fromkeys(values))}
        if len(known) < 2:
            continue
        counts = Counter(values)
        names = {value: named(each) for each, value in zip(flips, values, strict=True)}
        options = (Option(mark, names[value], counts[value]) for value, mark in known.items())
        found.append(Filter(key, label, tuple(options)))
        for own, value in zip(marks, values, strict=True):
            own.append(known[value])
    return found, [" ".join(own) for own in marks]


def direction(flip: Shown) -> str:
    return gettext("B is better") if flip.better > 0 else gettext("B is worse")


def cause(flip: Shown) -> str:
    return gettext(flip.change.kind.value)
