"""The scores of given texts: those of earlier attempts, and lm-eval's for the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.lm.answer import TOO_LONG, Answer, likelihood
from runner.runtimes.hf.batches import Request

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.runtimes.hf.batches import Batches

# One of lm-eval's tokenized requests: its text, its context and its continuation.
Tokens = tuple[Any, list[int], list[int]]


@dataclass(frozen=True)
class _Unscored:
    """A request whose score is still missing, passed in place of lm-eval's response cache key.

    `text` is the request as the task has it, or None for a window of a rolling request. `answer` is
    the answer without its score.
    """

    key: Hashable
    text: Hashable
    answer: Answer
    cut: bool


class Scores:
    """Scores of log-likelihood and rolling log-likelihood requests.

    It stands in for lm-eval's response cache (`cache_hook`), which receives every request as it is
    scored.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._scored: dict[Hashable, tuple[Answer, bool]] = {}
        self._unkept: list[tuple[Hashable, Answer]] = []

    def answers_to(self, request: Instance) -> list[tuple[Answer, bool]]:
        """The answer to a scored request, and whether it was truncated to fit.

        Repeats of a request share one answer, because they score the same.
        """
        scored = self._scored.get(request.args)
        return [scored] if scored is not None else []

    def forget(self) -> None:
        """Drop the answers of the task that has ended."""
        self._scored.clear()

    def of(
        self,
        requests: list[Tokens],
        max_length: int,
        score: Callable[[list[Any]], list[tuple[float, bool]]],
    ) -> list[tuple[float, bool]]:
        """Scores of all requests; `score`, lm-eval's own method, is given those still missing.

        lm-eval sorts requests and cuts them into batches, and only complete batches are saved. So
        the missing ones form the same batches as in an uninterrupted run, and score identically to
        the bit.
        """
        longest = max_length + 1  # the last token is scored but is not an input
        scores: list[Any] = []
        missing: dict[int, tuple[_Unscored, list[int], list[int]]] = {}
        for place, (text, context, continuation) in enumerate(requests):
            tokens = context + continuation
            if len(continuation) > max_length:
                answer = Answer(0, (), (), (), TOO_LONG)
                self._note(_Unscored(None, text, answer, False), answer)
                scores.append((likelihood(answer), False))
                continue
            asked = Request({"prompt_token_ids": tokens}, f"score from {len(context)}")
            key, known = self._batches.recall(asked)
            blank = Answer(min(len(tokens), longest), (), (), (), "length")
            answer = known or replace(blank, scored_tokens=len(continuation))
            unscored = _Unscored(key, text, answer, len(tokens) > longest)
            if known is None:
                missing[place] = (unscored, context, continuation)
            else:
                self._note(unscored, known)
            scores.append((answer.scored, answer.greedy))
        if missing:
            found = score(list(missing.values()))
            self.keep()
            for place, each in zip(missing, found, strict=True):
                scores[place] = each
        return scores

    def keep(self) -> None:
        """Save the answers of the batch that has been scored."""
        batch, self._unkept = self._unkept, []
        self._batches.keep(batch)

    def add_partial(self, kind: str, asked: Any, score: Any) -> None:
        """Record the score of one more request of a batch; called by lm-eval."""
        if not isinstance(asked, _Unscored):
            self._batches.progress.advance(1)  # a rolling request; its windows came before
            return
        scored, greedy = score
        answer = replace(asked.answer, scored=scored, greedy=greedy)
        self._unkept.append((asked.key, answer))
        self._note(asked, answer)

    def _note(self, asked: _Unscored, answer: Answer) -> None:
        if asked.text is not None:
            self._scored[asked.text] = (answer, asked.cut)
            self._batches.progress.advance(1)
