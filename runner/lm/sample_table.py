"""Writes all samples of a run, joined with the engine's answers, to one Parquet file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from runner.lm.degenerate import degenerate
from runner.lm.images import Album, image_hash
from runner.lm.repeats import seeds
from runner.lm.script import REPLAYED
from runner.lm.thinking import Thinking, thinking
from runner.lm.top import unpacked
from runner.rundir import write_atomic

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from runner.lm.answer import Answer
    from runner.lm.answering import Model
    from runner.lm.passes import Pass
    from runner.lm.tasks import LoadedTask
    from runner.outcome import Degeneracy


@dataclass(frozen=True)
class SampleRow:
    """One sample under one filter; `repeat` counts the samples of its question from 0.

    `evaluation` is the name in task.names for which it was asked: a task that two groups share is
    asked for each of them.
    There is an answer for each request (choice), and for each repeat if lm-eval's task repeats its
    requests. `answer_tokens` are their lengths; `token_ids`, `logprobs` and `margins` hold the
    tokens of all answers one after another. `seeds` are those of sampled answers. Images are those
    that the model was shown. `logprobs` are natural logarithms of the chosen tokens' probabilities,
    `margins` their lead over the next best token. `choice_logprobs` are the log-likelihoods of a
    scoring task, in the order of its requests, and `choice_tokens` the numbers of tokens they are
    sums over; empty if one is unknown. `guessed` says that lm-eval found no answer in the
    response and drew one at random. `seconds` is the time that the engine took for each request,
    where known. `cluster` is the value of the document's field that `verdict.cluster` names, if
    any.
    `degenerate` has an entry for each degenerate answer: what is wrong with it. `reasoning` are
    the texts before the answers, where a model thinks; `cut_thinking` answers ended at the token
    limit within it, `thought_only` ones have nothing after it. A replay records the likeliest
    tokens of each step, CANDIDATES for each of `token_ids`: `top_ids` and `top_logprobs`.
    """

    task: str
    doc_id: int
    filter: str
    doc_hash: str
    prompt_hash: str
    image_hashes: list[str]
    image_sizes: list[str]
    prompt: str
    target: str
    responses: list[str]
    filtered: str
    scores: dict[str, float]
    truncated: bool
    prompt_tokens: list[int]
    token_ids: list[int]
    logprobs: list[float]
    margins: list[float]
    finish_reasons: list[str]
    choice_logprobs: list[float] = field(default_factory=list)
    guessed: bool = False
    cluster: str = ""
    seconds: list[float] = field(default_factory=list)
    degenerate: list[str] = field(default_factory=list)
    repeat: int = 0
    seeds: list[int] = field(default_factory=list)
    answer_tokens: list[int] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    cut_thinking: int = 0
    thought_only: int = 0
    evaluation: str = ""
    top_ids: list[int] = field(default_factory=list)
    top_logprobs: list[float] = field(default_factory=list)
    choice_tokens: list[int] = field(default_factory=list)
    # The likeliest tokens of each answer (`runner.lm.top`), for a file of their own.
    likeliest: tuple[str, ...] = ()

    @property
    def sample(self) -> tuple[str, int]:
        """The question."""
        return (self.task, self.doc_id)


SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("doc_id", pa.int64()),
        ("filter", pa.string()),
        ("doc_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("image_hashes", pa.list_(pa.string())),
        ("image_sizes", pa.list_(pa.string())),
        ("prompt", pa.string()),
        ("target", pa.string()),
        ("responses", pa.list_(pa.string())),
        ("filtered", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("truncated", pa.bool_()),
        ("prompt_tokens", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("margins", pa.list_(pa.float32())),
        ("finish_reasons", pa.list_(pa.string())),
        ("choice_logprobs", pa.list_(pa.float64())),
        ("guessed", pa.bool_()),
        ("cluster", pa.string()),
        ("seconds", pa.list_(pa.float32())),
        ("degenerate", pa.list_(pa.string())),
        ("repeat", pa.int32()),
        ("seeds", pa.list_(pa.int64())),
        ("answer_tokens", pa.list_(pa.int32())),
        ("reasoning", pa.list_(pa.string())),
        ("cut_thinking", pa.int32()),
        ("thought_only", pa.int32()),
        ("evaluation", pa.string()),
        ("top_ids", pa.list_(pa.int32())),
        ("top_logprobs", pa.list_(pa.float32())),
        ("choice_tokens", pa.list_(pa.int32())),
    ]
)


def sample_table(rows: list[SampleRow]) -> pa.Table:
    """The rows as an Arrow table. This conversion is nine tenths of the work of writing them."""
    return pa.Table.from_pylist([_plain(row) for row in rows], schema=SCHEMA)


def write_samples(file: Path, tables: list[pa.Table]) -> None:
    """Write the tables to the file, replacing it atomically: a reader never sees a partial file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([SCHEMA.empty_table(), *tables]), sink, compression="zstd")
    write_atomic(file, sink.getvalue().to_pybytes())


def sample_rows(
    lm: Model,
    loaded: LoadedTask,
    one: Pass,
    album: Album,
    cluster: str | None = None,
) -> list[SampleRow]:
    """Join what lm-eval logged for each document with the engine's answers to its requests.

    `one` is a pass over all documents. Their images go to the album. `cluster` is the name of the
    document field to record.
    """
    rows = []
    for name, samples in one.results["samples"].items():
        requests: dict[int, list[Instance]] = {}
        for instance in sorted(loaded.leaves[name].instances, key=lambda each: each.idx):
            requests.setdefault(instance.doc_id, []).append(instance)
        engines = {doc_id: _engines(lm, asked, one) for doc_id, asked in requests.items()}
        guessed = loaded.guessed[name] or [False] * len(samples)
        rows += [
            _row(name, sample, engines.get(sample["doc_id"], _Engines()), drawn, album, cluster)
            for sample, drawn in zip(samples, guessed, strict=True)
        ]
    asked = loaded.evaluation.task
    return [replace(row, repeat=one.number, evaluation=asked) for row in rows]


@dataclass(frozen=True)
class _Engines:
    """The engine's side of a sample: its answers, what is wrong with them, and their seeds.

    `scored` has the number of scored tokens of each request, 0 if it is unknown.
    """

    answers: tuple[tuple[Answer, bool], ...] = ()
    faults: tuple[Degeneracy, ...] = ()
    seeds: tuple[int, ...] = ()
    thoughts: tuple[Thinking, ...] = ()
    scored: tuple[int, ...] = ()


def _engines(lm: Model, asked: list[Instance], one: Pass) -> _Engines:
    own = [one.own(lm.answers_to(request)) for request in asked]
    generated = [
        answer
        for request, answers in zip(asked, own, strict=True)
        if request.request_type == "generate_until"
        for answer, _ in answers
    ]
    return _Engines(
        tuple(answer for answers in own for answer in answers),
        tuple(
            kind
            for request, answers in zip(asked, own, strict=True)
            for kind in degenerate(lm, request, [answer for answer, _ in answers])
        ),
        tuple(seed for request in asked for seed in seeds(request, one.numbers(request))),
        tuple(found for answer in generated if (found := thinking(lm, answer)) is not None),
        tuple(_scored_tokens(lm, request) for request in asked),
    )


def _scored_tokens(lm: Model, request: Instance) -> int:
    if request.request_type == "loglikelihood_rolling":  # its windows score each token once
        return len(lm.tok_encode(request.args[0]))
    return next((answer.scored_tokens for answer, _ in lm.answers_to(request)), 0)


def _row(
    name: str,
    sample: dict[str, Any],
    engine: _Engines,
    guessed: bool,
    album: Album,
    cluster: str | None,
) -> SampleRow:
    known = [answer for answer, _ in engine.answers]
    images = _images(sample)
    prompt = str(sample["arguments"][0][0])
    replayed = any(answer.finish_reason == REPLAYED for answer in known)
    top = tuple(answer.top for answer in known)
    top_ids, top_logprobs = unpacked(top if replayed else ())
    choices = _choices(sample["resps"], engine.scored)
    lengths = [tokens for _, tokens in choices]
    prompts = [answer.prompt_tokens for answer in known]
    return SampleRow(
        task=name,
        doc_id=int(sample["doc_id"]),
        filter=sample["filter"],
        doc_hash=_document_hash(sample["doc"]),
        prompt_hash=hashlib.sha256(prompt.encode()).hexdigest(),
        image_hashes=[album.add(image) for image in images],
        image_sizes=[f"{image.width}x{image.height}" for image in images],
        prompt=prompt,
        target=str(sample["target"]),
        responses=[str(response) for per_request in sample["resps"] for response in per_request],
        filtered=str(sample["filtered_resps"][0])
        if len(sample["filtered_resps"]) == 1
        else json.dumps(sample["filtered_resps"], default=str, ensure_ascii=False),
        scores={
            metric: float(sample[metric])
            for metric in sample["metrics"]
            if isinstance(sample[metric], int | float)
        },
        truncated=any(cut for _, cut in engine.answers),
        prompt_tokens=prompts if all(prompts) else [],  # 0 is unknown
        token_ids=[token for answer in known for token in answer.token_ids],
        logprobs=[value for answer in known for value in answer.logprobs],
        margins=[value for answer in known for value in answer.margins],
        finish_reasons=[answer.finish_reason for answer in known],
        choice_logprobs=[value for value, _ in choices],
        guessed=guessed,
        cluster=str(sample["doc"].get(cluster, "")) if cluster else "",
        seconds=[answer.seconds for answer in known if answer.seconds is not None],
        degenerate=[kind.value for kind in engine.faults],
        seeds=list(engine.seeds),
        answer_tokens=[len(answer.token_ids) for answer in known],
        reasoning=[each.text for each in engine.thoughts],
        cut_thinking=sum(each.cut for each in engine.thoughts),
        thought_only=sum(each.only for each in engine.thoughts),
        top_ids=top_ids,
        top_logprobs=top_logprobs,
        choice_tokens=lengths if all(lengths) else [],
        likeliest=() if replayed else top,
    )


def _images(sample: dict[str, Any]) -> list[Any]:
    first = sample["arguments"][0]
    return first[2].get("visual", []) if len(first) > 2 else []


def _choices(responses: list[Any], scored: tuple[int, ...]) -> list[tuple[float, int]]:
    """The log-likelihood of each choice, and the number of its tokens."""
    known = scored if len(scored) == len(responses) else (0,) * len(responses)
    return [
        (value, tokens)
        for per_request, tokens in zip(responses, known, strict=True)
        for response in per_request
        if (value := _log_likelihood(response)) is not None
    ]


def _log_likelihood(response: Any) -> float | None:
    """The log-likelihood in a response; None if it has none.

    lm-eval's response is (log-likelihood, greedy) for a choice and a number for a rolling request.
    A choice that was too long to be scored and generated text have no log-likelihood.
    """
    value = response[0] if isinstance(response, tuple) else response
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _document_hash(document: dict[str, Any]) -> str:
    """SHA-256 of a document's content; images count by their pixels."""

    def content(value: Any) -> str:
        return image_hash(value) if isinstance(value, Image.Image) else repr(value)

    text = json.dumps(document, sort_keys=True, default=content, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(row: SampleRow) -> dict[str, Any]:
    plain = asdict(row)
    plain["scores"] = list(row.scores.items())
    return plain
