"""The answers of a reference run as a script: an engine is made to generate the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from runner.errors import UserError
from runner.evidence.samples import Sample, read_samples

# The generation setting, and vLLM's extra argument, that holds the tokens to generate, or to score.
REPLAY, PREFILL = "replay", "prefill"
SETTINGS = {"decode": REPLAY, "prefill": PREFILL}
# The same for the name of a question, in a traced run.
LABEL = "trace_label"
# The same for an answer of which the likeliest tokens are to be recorded, though it is no replay.
RECORD = "record_likeliest"
# The finish reason of an answer whose end was not the model's choice.
REPLAYED = "replayed"
# Number of the likeliest tokens that a replay records in each step.
CANDIDATES = 20

Tokens = list[int]


class Script:
    """The tokens of each answer, by question."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._answers: dict[tuple[str, int], list[Tokens]] = {}
        seen = set()
        for sample in sorted(samples, key=lambda each: each.repeat):
            if (sample.task, sample.doc_id, sample.repeat) in seen:  # under another filter
                continue
            seen.add((sample.task, sample.doc_id, sample.repeat))
            self._answers.setdefault((sample.task, sample.doc_id), []).extend(answers(sample))

    def of(self, task: str, doc_id: int) -> list[Tokens]:
        """The tokens of all answers to a question, in order.

        Raises:
            UserError: if the reference run did not answer the question.
        """
        try:
            return self._answers[task, doc_id]
        except KeyError:
            raise UserError(
                f"verdict.reference: the run has no answer to document {doc_id} of {task}, so it "
                "cannot be replayed; choose a reference run that was asked all questions of this "
                "run, or lower task.limit"
            ) from None


def answers(sample: Sample) -> list[Tokens]:
    """The tokens of each generated answer of a sample.

    Samples of version 0.1 don't say where an answer ends, but have only one in most tasks.
    """
    lengths = sample.answer_tokens or (len(sample.token_ids),)
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    return [
        list(sample.token_ids[end - length : end])
        for end, length in zip(ends, lengths, strict=True)
    ]


@cache
def read_script(file: str) -> Script:
    """The script in a run's file of samples."""
    return Script(read_samples(Path(file)))
