"""Documents of the stand-in's tasks: made here, so that no hub and no cache is asked."""

from __future__ import annotations

from typing import Any

import datasets


def questions(first: int = 0, count: int = 40, **ignored: Any) -> dict[str, datasets.Dataset]:
    numbers = range(first, first + count)
    rows = [{"number": number, "answer": "ABC"[number % 3]} for number in numbers]
    return {"test": datasets.Dataset.from_list(rows)}
