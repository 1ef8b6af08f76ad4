"""lm-eval's own scoring of given texts with transformers, recorded, and kept as it comes."""

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
    """Stands where lm-eval has the key of its response cache: whose score it will be.

    `text` is the request as the task has it, None for a window of a rolling one; `answer` lacks
    the score.
    """

    key: Hashable
    text: Hashable
    answer: Answer
    cut: bool


class Scoring(InTurn, HFLM):
    """Log-likelihood and rolling requests."""

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
        """How long an asked request was, and whether it was cut to fit; repeats score the same."""
        scored = self._scored.get(request.args)
        return [scored] if scored is not None else []

    def forget(self) -> None:
        """Drop the answers that nobody took."""
        self._scored.clear()

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """lm-eval's, asked for what no attempt before has scored.

        It sorts requests and cuts them into batches, and a batch is kept whole: those that are
        missing are made of the same requests as they would have been, and score to the same bit.
        """
        longest = self.max_length + 1  # the last token is scored, and never read
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
        """lm-eval has scored one more request of a batch."""
        answer = replace(unscored.answer, scored=scored, greedy=greedy)
        self._unkept.append((unscored.key, answer))
        self._note(unscored, answer)

    def _note(self, asked: _Unscored, answer: Answer) -> None:
        if asked.text is not None:
            self._scored[asked.text] = (answer, asked.cut)
            self.progress.advance(1)

    def _keep(self) -> None:
        """Keep the batch that has been scored."""
        batch, self._unkept = self._unkept, []
        self.keep(batch)


class _Hook:
    """Stands where lm-eval has its response cache, which hears of every request as it is scored."""

    def __init__(self, lm: Scoring) -> None:
        self._lm = lm

    def add_partial(self, kind: str, asked: Any, score: Any) -> None:
        if isinstance(asked, _Unscored):
            self._lm.hear(asked, *score)
        else:
            self._lm.progress.advance(1)  # a rolling one, whose windows were heard of before
