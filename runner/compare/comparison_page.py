"""Writes compare.md, compare.html and compare.json.

Model output is untrusted: it is escaped, and invisible or bidirectional control characters are
spelled out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.compare.amounts import bare, bounds
from runner.compare.browsed import browsed
from runner.compare.changes import MEANING
from runner.compare.comparison import Comparison
from runner.compare.comparison_findings import findings
from runner.compare.figures import positions_plot, strips, told
from runner.compare.filters import direction, filters
from runner.compare.headline import headline
from runner.language import gettext
from runner.present.formats import cell, fenced, number, of
from runner.present.pictures import pictures
from runner.present.template import template
from runner.rundir import RunDirectory, write_atomic, write_json
from runner.stats.clusters import test_name
from runner.sweep.axis_findings import bare_probability

NAME = "compare"
# More settings than this are collapsed on the page.
FOLDED = 12
# Flipped answers that are expanded when the page opens.
OPENED = 4


def write(directory: Path, comparison: Comparison, command: str) -> None:
    """Write all three files and replace those of an earlier comparison."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / f"{NAME}.json", comparison)
    write_atomic(directory / f"{NAME}.md", markdown(comparison, command))
    write_atomic(directory / f"{NAME}.html", html(comparison, command))


def html(comparison: Comparison, command: str) -> str:
    """Render the self-contained HTML page."""
    flips = (*comparison.shown, *comparison.brief)
    found, marks = filters(flips)
    wanted = [digest for each in flips for digest in (*each.images, *each.second_images)]
    files = [
        RunDirectory(Path(run.directory)).images for run in (comparison.first, comparison.second)
    ]
    return _page(
        "compare.html.j2",
        comparison,
        command,
        pictures=pictures(files, wanted),
        filters=found,
        plot=positions_plot(comparison.numerics.positions),
        flips=list(zip(flips, marks, strict=True)),
        direction=direction,
        opened=OPENED,
        browser=browsed(comparison.questions, files),
        served=False,
        unit="questions",
        view="",
    )


def markdown(comparison: Comparison, command: str) -> str:
    """Render the comparison as Markdown without images, for example for an issue."""
    return _page("compare.md.j2", comparison, command)


def render(name: str, **content: Any) -> str:
    """Render a template with untrusted text escaped."""
    page = template(
        name,
        bare=bare,
        bounds=bounds,
        cell=cell,
        fenced=_text,
        listed=_joined,
        number=number,
        of=of,
        probability=bare_probability,
        told=told,
        test_name=test_name,
    )
    return page.render(**content)


def _text(text: str) -> str:
    return fenced(text, "text")


def _joined(parts: Iterable[str]) -> str:
    return gettext(", ").join(parts)


def _page(template: str, comparison: Comparison, command: str, **more: Any) -> str:
    rows = comparison.scores
    return render(
        template,
        c=comparison,
        command=command,
        headline=headline(comparison),
        findings=findings(comparison),
        meaning={kind: gettext(text) for kind, text in MEANING.items()},
        tests=_joined(dict.fromkeys(test_name(row.test) for row in rows)),
        rows=list(zip(rows, strips(rows, comparison.margin), strict=True)),
        folded=FOLDED,
        **more,
    )
