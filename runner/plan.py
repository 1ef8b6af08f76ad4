"""The Plan of a run: engine arguments, evaluations and fingerprints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runner.baseline import Baselines

# Engine arguments that say where files are.
PLACES = ("pretrained", "tokenizer")


@dataclass(frozen=True)
class Evaluation:
    """One lm-eval task with its settings; None leaves a setting to lm-eval's task."""

    task: str
    num_fewshot: int | None
    apply_chat_template: bool
    fewshot_as_multiturn: bool
    limit: float | None
    batch_size: str
    baselines: Baselines
    # The limit that the baselines were measured with.
    baseline_limit: float | None = None
    # Source of each baseline.
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    # How often each question is asked.
    samples: int = 1
    # Generation settings that override the task's.
    gen_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JournalPlan:
    """The journal directory of this engine, and the size limit of the whole journal.

    `continues` is the directory of a run that stopped early, whose answers are used.
    """

    directory: str
    max_gib: float
    continues: str | None = None


@dataclass(frozen=True)
class ReplayPlan:
    """A reference run whose answers are given to the engine: its samples.parquet, and the digest.

    With `way` "decode" the engine generates them again, with "prefill" it scores them in one step.
    `questions` are the only documents to replay, by task (of a group: by subtask); empty if all.
    `drawn` says whether they were drawn at random.
    """

    samples: str
    digest: str
    way: str = "decode"
    questions: dict[str, list[int]] = field(default_factory=dict)
    drawn: bool = False


# Increased when a trace records something else, so that earlier traces are not reused.
TRACE_VERSION = 2


@dataclass(frozen=True)
class TracePlan:
    """Which rows of the modules' outputs a replay records (runner/evidence/sketches.py).

    Those of the last `prompt` tokens of each prompt, the first `answer` tokens of each answer, and
    `image` patches of each image; as `size` numbers each. With `whole`, the outputs of these
    modules are recorded instead, with all their columns, for the questions with these labels. A
    plan without a `version` was written before there was one.
    """

    prompt: int = 64
    answer: int = 32
    image: int = 32
    size: int = 32
    whole: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything that the worker needs to run, with no setting left open."""

    model: str
    backend: str
    platform: str
    hardware: str | None
    baseline_source: str | None
    engine_args: dict[str, Any]
    environment: dict[str, str]
    evaluations: tuple[Evaluation, ...]
    system_instruction: str | None
    seed: int
    data_source: str
    data_dir: str | None
    include_path: str | None
    engine_fingerprint: str
    evaluation_fingerprint: str
    # A plan.json without this field is from an older version, which always used vLLM.
    runtime: str = "vllm"
    # The document field that groups samples which are not independent.
    cluster: str | None = None
    # Single task files, by task name.
    task_files: dict[str, str] = field(default_factory=dict)
    # Interpreter of the worker; None for the runner's own.
    python: str | None = None
    # Number of concurrent requests; None derives it from the engine's size.
    window: int | None = None
    journal: JournalPlan | None = None
    # `HOST STATES` of large files, which the fingerprints identify only by samples or names.
    unread: str = ""
    # Preflight problems, each with the setting that overrode it.
    overruled: tuple[str, ...] = ()
    # Digests of the packages that the engine loads.
    code: dict[str, str] = field(default_factory=dict)
    # Identity of the weights: a digest of their files, or the hub's revision.
    weights: str = ""
    replay: ReplayPlan | None = None
    # Whether to record the likeliest tokens of each step, as a replay always does.
    distributions: bool = False
    # Set for a run of python -m runner.trace.
    trace: TracePlan | None = None
    # Whether questions are asked in random order until they are enough for a verdict.
    sequential: bool = False
    # Whether equal fingerprints mean the same engine. A running server may change unnoticed.
    identified: bool = True

    @property
    def devices(self) -> int:
        """Number of devices that the engine uses."""
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        return math.prod(int(self.engine_args.get(name, 1)) for name in sizes)

    @property
    def parallel_mode(self) -> str:
        """Parallelism as release notes write it, for example `TP2 + PP2 + EP`.

        For a runtime without parallelism, its name.
        """
        if "tensor_parallel_size" not in self.engine_args:
            return self.runtime
        parts = [f"TP{self.engine_args['tensor_parallel_size']}"]
        for short, name in (("PP", "pipeline_parallel_size"), ("DP", "data_parallel_size")):
            if self.engine_args.get(name, 1) > 1:
                parts.append(f"{short}{self.engine_args[name]}")
        if self.engine_args.get("enable_expert_parallel"):
            parts.append("EP")
        return " + ".join(parts)

    @property
    def baseline_origin(self) -> str:
        """Source of the baselines; one per metric if they differ."""
        return joined_origins(
            (f"{each.task} {metric},{name}".removesuffix(",none"), origin)
            for each in self.evaluations
            for metric, filters in each.origins.items()
            for name, origin in filters.items()
        )


def joined_origins(origins: Iterable[tuple[str, str]]) -> str:
    """The source that all given baselines share, else `canary acc: …; gsm8k exact_match: …`."""
    known = [(name, origin) for name, origin in origins if origin]
    if len({origin for _, origin in known}) == 1:
        return known[0][1]
    return "; ".join(f"{name}: {origin}" for name, origin in known)
