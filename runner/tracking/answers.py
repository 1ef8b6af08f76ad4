"""The answers of a run as a table that MLflow shows, and compares with other runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from runner.evidence.samples import Sample, stopped
from runner.evidence.unparsable import unparsable
from runner.visible import visible

# The artifact, and the tag by which MLflow finds it.
ARTIFACT, TAG = "answers.json", "mlflow.loggedArtifacts"
MARK = json.dumps([{"path": ARTIFACT, "type": "table"}])
# MLflow's page loads the whole table. The first questions are the same in every run of a task, so
# they can be compared. samples.parquet has all samples, with whole texts.
MOST, LONGEST = 1000, 2000
# The columns besides the scores. The page shows the first ones.
BEFORE = ("question", "response", "parsed", "target")
AFTER = ("tokens", "cut", "unparsable", "degenerate", "prompt")


def answers(samples: Sequence[Sample]) -> str:
    """Return samples as JSON: `columns`, and `data` with a list of values for each."""
    scores = list(dict.fromkeys(name for each in samples for name in each.scores))
    rows = [
        [
            _question(each),
            _text("\n\n".join(each.responses)),
            _text(each.filtered),
            _text(each.target),
            *(_score(each.scores.get(name)) for name in scores),
            len(each.token_ids),
            each.truncated or stopped(each),
            unparsable(each),
            ", ".join(dict.fromkeys(each.degenerate)),
            _text(each.prompt),
        ]
        for each in samples
    ]
    return json.dumps({"columns": [*BEFORE, *scores, *AFTER], "data": rows}, allow_nan=False)


def _question(sample: Sample) -> str:
    """What MLflow compares runs by; it must be unique in a run."""
    name = f"{sample.task}/{sample.doc_id}"
    if sample.filter != "none":
        name += f", {sample.filter}"
    return visible(f"{name}, sample {sample.repeat + 1}" if sample.repeat else name)


def _text(text: str) -> str:
    return visible(text[:LONGEST] + "…" if len(text) > LONGEST else text)


def _score(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)  # JSON has no NaN
