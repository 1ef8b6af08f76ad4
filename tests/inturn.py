"""A model class of lm-eval's without a model; tests add the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from runner.lm.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.lm.answering import Named


class InTurn(LM):  # type: ignore[misc]
    """Runs tasks one after another."""

    batch_size: Any = 8
    tokenizer: Any = None
    think_end_token: str | None = None
    max_gen_toks: int = 256

    def start(self) -> None: ...

    def check_settings(self, settings: dict[str, Any], images: bool) -> None: ...

    def together(self, tasks: Sequence[Named], batch_size: str, chat: bool) -> None:
        for _, run in tasks:
            run()

    def spent(self) -> float:
        return 0.0

    def loglikelihood(self, requests: Any) -> Any:
        raise AssertionError("not asked")

    loglikelihood_rolling = loglikelihood

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        raise AssertionError("not asked")

    def answers_to(self, request: Any) -> list[tuple[Answer, bool]]:
        return [(Answer(9, (1, 2), (-0.1, -0.1), (1.0, 1.0), "stop", "A"), False)]
