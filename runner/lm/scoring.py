"""lm-eval's own scoring of given texts with transformers, with its results recorded."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lm_eval.models.huggingface import HFLM

from runner.lm.answer import TOO_LONG, Answer, likelihood
from runner.lm.answering import InTurn, Request

if TYPE_CHECKING:
    import torch
    from lm_eval.api.instance import Instance

    from runner.lm.answering import Progress


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


class Scoring(InTurn, HFLM):
    """Log-likelihood and rolling log-likelihood requests."""

    def __init__(self, *args: Any, progress: Progress, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress
        self.cache_hook = _Hook(self)
        self._scored: dict[Hashable, tuple[Answer, bool]] = {}
        self._unkept: list[tuple[Hashable, Answer]] = []

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.asking("loglikelihood", len(requests)):
            return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.asking("loglikelihood_rolling", len(requests)):
            return super().loglikelihood_rolling(requests)

    def answers_to(self, request: Instance) -> list[tuple[Answer, bool]]:
        """The answer to a scored request, and whether it was truncated to fit.

        Repeats of a request share one answer, because they score the same.
        """
        scored = self._scored.get(request.args)
        return [scored] if scored is not None else []

    def forget(self) -> None:
        """Drop the answers of the task that has ended."""
        self._scored.clear()

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """lm-eval's scoring, for the requests that no earlier attempt has scored.

        lm-eval sorts requests and cuts them into batches, and only complete batches are saved. So
        the missing ones form the same batches as in an uninterrupted run, and score identically to
        the bit.
        """
        longest = self.max_length + 1  # the last token is scored but is not an input
        scores: list[Any] = []
        missing: dict[int, tuple[_Unscored, list[int], list[int]]] = {}
        for place, (text, context, continuation) in enumerate(requests):
            tokens = context + continuation
            if len(continuation) > self.max_length:
                answer = Answer(0, (), (), (), TOO_LONG)
                self._note(_Unscored(None, text, answer, False), answer)
                scores.append((likelihood(answer), False))
                continue
            asked = Request({"prompt_token_ids": tokens}, f"score from {len(context)}")
            key, known = self.recall(asked)
            answer = known or Answer(min(len(tokens), longest), (), (), (), "length")
            unscored = _Unscored(key, text, answer, len(tokens) > longest)
            if known is None:
                missing[place] = (unscored, context, continuation)
            else:
                self._note(unscored, known)
            scores.append((answer.scored, answer.greedy))
        if missing:
            found = super()._loglikelihood_tokens(list(missing.values()), True, override_bs)
            self._keep()
            for place, score in zip(missing, found, strict=True):
                scores[place] = score
        return scores

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._keep()
        self.step()
        return super()._model_call(*args, **kwargs)

    def hear(self, unscored: _Unscored, scored: float, greedy: bool) -> None:
        """Record the score of one more request of a batch."""
        answer = replace(unscored.answer, scored=scored, greedy=greedy)
        self._unkept.append((unscored.key, answer))
        self._note(unscored, answer)

    def _note(self, asked: _Unscored, answer: Answer) -> None:
        if asked.text is not None:
            self._scored[asked.text] = (answer, asked.cut)
            self.progress.advance(1)

    def _keep(self) -> None:
        """Save the answers of the batch that has been scored."""
        batch, self._unkept = self._unkept, []
        self.keep(batch)


class _Hook:
    """Stands in for lm-eval's response cache, which receives every request as it is scored."""

    def __init__(self, lm: Scoring) -> None:
        self._lm = lm

    def add_partial(self, kind: str, asked: Any, score: Any) -> None:
        if isinstance(asked, _Unscored):
            self._lm.hear(asked, *score)
        else:
            self._lm.progress.advance(1)  # a rolling request; its windows were recorded before
