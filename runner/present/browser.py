"""The list of all samples that report.html and compare.html carry inside them.

The data are JSON, compressed in blocks that the page's script (templates/browser.js) unpacks when
they are needed: the columns of the list first, the texts of a sample once it is chosen. What a
model wrote reaches the page only in these blocks, and the script shows it as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from heapq import heappop, heappush
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from runner.present.browser_texts import texts
from runner.present.formats import clip
from runner.present.packed import BLOCK, Blocks, compressed, encoded, pack
from runner.present.pictures import Picture
from runner.visible import UNSEEN

# Compressed bytes of all texts, which take a third more in the page; characters of all images.
MOST_TEXT, MOST_IMAGES = 20_000_000, 6_000_000
# Characters of a single text, even if there is room for more. Texts that don't fit with LEAST each
# are left out.
LONGEST, LEAST = 200_000, 40
# Every TRIAL-th sample is compressed on its own, to estimate the size of all.
TRIAL = 16


@dataclass(frozen=True)
class Side:
    """The answer of one run: `scores` and `parsed` by metric and filter, `facts` as short texts.

    `numbered` says that the places in `choices` are the numbers of the choices.
    """

    responses: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    parsed: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    choices: tuple[float, ...] = ()
    numbered: bool = True
    facts: tuple[str, ...] = ()
    right: bool | None = None


@dataclass(frozen=True)
class Detail:
    """Everything that the page shows of a chosen sample, with one side for each run.

    `second_prompt` and `second_images` are set only if they differ between the runs.
    """

    prompt: str
    target: str
    images: tuple[str, ...] = ()
    sides: tuple[Side | None, ...] = ()
    second_prompt: str | None = None
    second_images: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of the list: numbers with that many `digits`, or texts (None).

    `right` is the key of a column that says which values are of right answers. `wide` columns are
    left out on a narrow screen. `size` is the width in CSS.
    """

    key: str
    label: str
    size: str
    digits: int | None = None
    right: str | None = None
    wide: bool = False


@dataclass(frozen=True)
class Choice:
    """A list of names to filter by; the column of the same key has places in `names`.

    The page's address has the names, and the page shows `labels` instead, if given.
    """

    key: str
    label: str
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flag:
    """A toggle that keeps the samples with its bit set in the column `flags`.

    `shown` flags stand beside a sample's name in the list. The page's address has the name, and the
    page shows the `label` instead, if given.
    """

    name: str
    meaning: str
    shown: bool = True
    label: str = ""


@dataclass(frozen=True)
class Listing:
    """The list without its texts. `values` has each column's values, one for each sample.

    It has the columns `task` (places in `tasks`), `doc`, `repeat` and `flags` as well. `letters`
    name the sides of a sample.
    """

    tasks: tuple[str, ...]
    values: dict[str, list[Any]]
    columns: tuple[Column, ...]
    choices: tuple[Choice, ...]
    flags: tuple[Flag, ...]
    letters: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.values["doc"])


@dataclass(frozen=True)
class Browser:
    """The compressed blocks of a list of samples.

    Texts of more than `longest` characters are cut, if that is given; if it is 0, all texts are
    left out. `hidden` images did not fit.
    """

    index: bytes
    texts: Blocks
    images: Blocks
    count: int
    longest: int | None
    hidden: int

    @property
    def script(self) -> Markup:
        """The page's script: our own, and without a closing tag."""
        return Markup(_script())

    def texts_of(self, unit: str) -> str:
        """The texts of the page's script as JSON; `unit` is what the page calls its samples."""
        return texts(unit)

    @property
    def policy(self) -> str:
        """The source that a Content-Security-Policy must allow for the script to run."""
        code = f"\n{_script()}".encode()  # as it stands in templates/browser.html.j2
        return f"'sha256-{base64.b64encode(hashlib.sha256(code).digest()).decode()}'"

    @cached_property
    def digest(self) -> str:
        """A name for all blocks: other blocks have another."""
        found = hashlib.sha256()
        for _, packed in self.blocks:
            found.update(packed)
        return found.hexdigest()[:16]

    @property
    def blocks(self) -> Iterator[tuple[str, bytes]]:
        """All blocks with their names."""
        yield "index", self.index
        for kind, blocks in (("texts", self.texts), ("images", self.images)):
            for place, packed in enumerate(blocks.packed):
                yield f"{kind}-{place}", packed

    @property
    def embedded(self) -> Iterator[tuple[str, Markup]]:
        """All blocks with their names, in base64."""
        for name, packed in self.blocks:
            yield name, Markup(base64.b64encode(packed).decode("ascii"))  # not escaped: no copies


def browser(
    listing: Listing,
    details: Callable[[], Iterable[tuple[int, Detail]]],
    images: Mapping[str, Picture],
    limited: bool = True,
) -> Browser:
    """Compress a list, the details of its samples with their places in it, and its images by hash.

    Details come in any order. If `limited`, texts are cut so that all of them fit into a page;
    `details` is then called more than once.
    """
    pictures, places, hidden = _album(images)
    longest = _fitting(details()) if limited else None
    while (found := _texts(details(), longest)) is None:
        assert longest  # whole texts always fit, and so does none
        # The estimate was too high.
        longest = max(LEAST, longest * 9 // 10) if longest > LEAST else 0
    texts, cut = found
    index = {
        "listing": listing,
        "texts": texts.starts,
        "images": pictures.starts,
        "places": places,
        "unseen": json.dumps(UNSEEN.pattern),  # in ASCII: it has halves of characters
    }
    return Browser(
        index=compressed(encoded(index)),
        texts=texts,
        images=pictures,
        count=len(listing),
        longest=longest if cut else None,
        hidden=hidden,
    )


@cache
def _script() -> str:
    return (files("runner") / "templates" / "browser.js").read_text(encoding="utf-8")


def _texts(
    details: Iterable[tuple[int, Detail]], longest: int | None
) -> tuple[Blocks, bool] | None:
    """The blocks, and whether a text was cut.

    None if the blocks of texts with at most `longest` characters have more than MOST_TEXT bytes.
    Without any texts, they may.
    """
    cut = False

    def values() -> Iterator[tuple[int, bytes]]:
        nonlocal cut
        for place, detail in details:
            shown = detail if longest is None else _cut(detail, longest)
            cut = cut or shown is not detail
            yield place, encoded(shown)

    blocks = pack(values(), MOST_TEXT if longest else None)
    return None if blocks is None else (blocks, cut)


def _fitting(details: Iterable[tuple[int, Detail]]) -> int:
    """An estimate of the largest length of a text with which all texts fit.

    How many characters fit depends on their language: one takes up to three bytes.
    """
    lengths: list[int] = []
    # The first of the tried samples, as many as have two blocks together: the last one on top.
    tried: list[tuple[int, bytes, int]] = []
    size = 0
    for place, detail in details:
        lengths += map(len, _strings(detail))
        if place % TRIAL == 0:
            short = _cut(detail, BLOCK // 100)
            content = encoded(short)
            heappush(tried, (-place, content, sum(map(len, _strings(short)))))
            size += len(content)
            while size - len(tried[0][1]) >= 2 * BLOCK:
                size -= len(heappop(tried)[1])
    trial = b"".join(content for _, content, _ in sorted(tried, reverse=True))
    characters = sum(count for *_, count in tried)
    allowed = 0.95 * MOST_TEXT * characters / len(compressed(trial))
    return max(LEAST, min(LONGEST, _cap(sorted(lengths), allowed)))


def _cap(lengths: Sequence[int], allowed: float) -> int:
    """The largest cap with which texts of these ascending lengths have `allowed` characters.

    It is their largest length if all fit.
    """
    left = allowed
    for place, length in enumerate(lengths):
        rest = len(lengths) - place
        if length * rest > left:
            return int(left / rest)
        left -= length
    return lengths[-1] if lengths else 0


def _strings(detail: Detail) -> Iterator[str]:
    yield detail.prompt
    yield detail.target
    if detail.second_prompt:
        yield detail.second_prompt
    for side in detail.sides:
        if side is not None:
            yield from side.responses
            yield from side.reasoning
            yield from side.parsed.values()


def _cut(detail: Detail, longest: int) -> Detail:
    if longest == 0:
        return _without_texts(detail)
    if max(map(len, _strings(detail))) <= longest:
        return detail

    def short(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(clip(text, longest) for text in texts)

    second = detail.second_prompt
    return replace(
        detail,
        prompt=clip(detail.prompt, longest),
        target=clip(detail.target, longest),
        second_prompt=None if second is None else clip(second, longest),
        sides=tuple(
            None
            if side is None
            else replace(
                side,
                responses=short(side.responses),
                reasoning=short(side.reasoning),
                parsed={name: clip(text, longest) for name, text in side.parsed.items()},
            )
            for side in detail.sides
        ),
    )


def _without_texts(detail: Detail) -> Detail:
    sides = tuple(
        None if side is None else replace(side, responses=(), reasoning=(), parsed={})
        for side in detail.sides
    )
    second = None if detail.second_prompt is None else ""
    return replace(detail, prompt="", target="", second_prompt=second, sides=sides)


def _album(
    images: Mapping[str, Picture],
) -> tuple[Blocks, dict[str, tuple[int, int, int]], int]:
    """The blocks of images; place and size of each by its hash; how many are left out."""
    packed: list[bytes] = []
    starts: list[int] = []
    waiting: list[str] = []
    places: dict[str, tuple[int, int, int]] = {}
    size = number = 0

    def close() -> None:
        starts.append(number - len(waiting))
        packed.append(compressed(encoded(waiting)))
        waiting.clear()

    for digest, picture in images.items():
        places[digest] = (number if picture.address else -1, picture.width, picture.height)
        if not picture.address:
            continue
        number += 1
        waiting.append(picture.address)
        size += len(picture.address)
        if size >= BLOCK:
            close()
            size = 0
    if waiting:
        close()
    return Blocks(tuple(packed), tuple(starts)), places, len(places) - number
