"""RunConfig → Plan: engine arguments, what is asked, and their fingerprints. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.config.schema import AskConfig, ModelConfig, RunConfig, SeriesConfig
from runner.config.verdict import NO_FIELD
from runner.inputs.paths import by_content
from runner.runtimes import TRANSFORMERS_BATCH_SIZE, anywhere, backend, engine_args
from runner.variables import moving, parts

PLACES = ("pretrained", "tokenizer")
# transformers takes what the weights' generation_config.json says into every answer; vLLM, asked by
# lm-eval, does not. A repetition penalty (Qwen2.5-VL's is 1.05) also changes greedy answers.
PLAIN = {"repetition_penalty": 1.0}
# Arguments of lm-eval 0.4.13's classes for images that change nothing there, and do here.
IMAGE_BACKENDS = ("vllm-vlm", "hf-multimodal")
UNUSED_FOR_IMAGES = ("chat_template_args", "enable_thinking", "think_end_token")


@dataclass(frozen=True)
class Facts:
    """What the plan needs to know about the machine and the weights, gathered before it is made."""

    versions: dict[str, str]
    device: str
    environment: dict[str, str]
    weights: str = "unknown"
    data: str = ""
    # Of a tokenizer that is not the weights' own: its id or its files' digest; the hardware series
    # that a baseline may depend on; what the worker inherits that can move a number.
    tokenizer: str | None = None
    series: str | None = None
    inherited: dict[str, str] = field(default_factory=dict)
    # Digests of the code that computes, and of the code that asks and scores.
    engine_code: dict[str, str] = field(default_factory=dict)
    evaluation_code: dict[str, str] = field(default_factory=dict)
    # Of each path in engine.extra, the digest of what lies there; and the state of all files that
    # digests do not read whole.
    paths: dict[str, str] = field(default_factory=dict)
    unread: str = ""
    # Refusals of preflight that the user overruled.
    overruled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """One lm-eval task as it is asked; null leaves the value to lm-eval's own task."""

    task: str
    num_fewshot: int | None
    apply_chat_template: bool
    fewshot_as_multiturn: bool
    limit: float | None
    batch_size: str
    baselines: dict[str, dict[str, float]]
    # The limit that the baselines were measured with.
    baseline_limit: float | None = None
    # Where each of the baselines comes from.
    origins: dict[str, dict[str, str]] = field(default_factory=dict)


# What says how an evaluation is judged or batched, not what is asked.
NOT_ASKED = ("baselines", "baseline_limit", "origins", "batch_size")


@dataclass(frozen=True)
class JournalPlan:
    """The directory of this engine's answers, and what all of its kind may take together."""

    directory: str
    max_gib: float


@dataclass(frozen=True)
class Plan:
    """All that the worker needs, and nothing that it must guess."""

    model: str
    backend: str
    platform: str
    hardware: str | None
    baseline_source: str | None
    engine_args: dict[str, Any]
    environment: dict[str, str]
    evaluations: tuple[Evaluation, ...]
    system_instruction: str | None
    gen_kwargs: dict[str, Any]
    seed: int
    data_source: str
    data_dir: str | None
    include_path: str | None
    engine_fingerprint: str
    evaluation_fingerprint: str
    # What an older run's plan.json does not say was vLLM.
    runtime: str = "vllm"
    # The field of the documents that says which samples share their fate.
    cluster: str | None = None
    # Single task files, by the names of their tasks.
    task_files: dict[str, str] = field(default_factory=dict)
    # Requests in flight; None leaves it to the engine's size.
    window: int | None = None
    journal: JournalPlan | None = None
    # `HOST STATES` of large files, which the fingerprints know by samples or names.
    unread: str = ""
    # What preflight would have refused, and the switch that allowed it.
    overruled: tuple[str, ...] = ()
    # Digests of the packages that the engine is to load.
    code: dict[str, str] = field(default_factory=dict)
    # Who the weights are: a digest of their files, or the hub's revision.
    weights: str = ""

    @property
    def devices(self) -> int:
        """How many devices the engine spans."""
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        return math.prod(int(self.engine_args.get(name, 1)) for name in sizes)

    @property
    def parallel_mode(self) -> str:
        """`TP2 + PP2 + EP`, as release notes write it."""
        if self.runtime == "transformers":
            return "transformers"
        parts = [f"TP{self.engine_args['tensor_parallel_size']}"]
        for short, name in (("PP", "pipeline_parallel_size"), ("DP", "data_parallel_size")):
            if self.engine_args.get(name, 1) > 1:
                parts.append(f"{short}{self.engine_args[name]}")
        if self.engine_args.get("enable_expert_parallel"):
            parts.append("EP")
        return " + ".join(parts)

    @property
    def baseline_origin(self) -> str:
        """Where the baselines come from; each is named where they differ."""
        return joined_origins(
            (f"{each.task} {metric},{name}".removesuffix(",none"), origin)
            for each in self.evaluations
            for metric, filters in each.origins.items()
            for name, origin in filters.items()
        )

    def lm_eval_command(self, greedy: Collection[str] = ()) -> str:
        """The lm-eval command line that asks the same, one for each way of asking.

        `greedy` are tasks that say nothing of sampling: lm-eval alone would have vLLM sample.
        """
        lines = [f"export {k}={shlex.quote(v)}" for k, v in sorted(self.environment.items())]
        if self.data_dir:
            # `datasets` takes a directory below the working directory for the hub's data set.
            lines.append(f"cd {shlex.quote(self.data_dir)}")
        return "\n".join(
            [*lines, *(self._command(each, each.task in greedy) for each in self.evaluations)]
        )

    def _command(self, evaluation: Evaluation, greedy: bool) -> str:
        words = ["lm_eval", "--model", self.backend]
        unused = [name for name in UNUSED_FOR_IMAGES if self.engine_args.get(name) is not None]
        arguments = dict(self.engine_args)
        device = arguments.pop("device", None)  # lm-eval's command line hands its own on, too
        words += ["--model_args", json.dumps(arguments, ensure_ascii=False)]
        words += ["--device", device] if device else []
        words += ["--tasks", self.task_files.get(evaluation.task, evaluation.task)]
        if self.include_path:
            words += ["--include_path", self.include_path]
        if evaluation.apply_chat_template:
            words.append("--apply_chat_template")
        if evaluation.fewshot_as_multiturn:
            words.append("--fewshot_as_multiturn")
        if evaluation.num_fewshot is not None:
            words += ["--num_fewshot", str(evaluation.num_fewshot)]
        if evaluation.limit is not None:
            words += ["--limit", repr(evaluation.limit).removesuffix(".0")]
        if self.system_instruction:
            words += ["--system_instruction", self.system_instruction]
        gen_kwargs = {**({"temperature": 0.0} if greedy else {}), **self.gen_kwargs}
        if self.runtime == "transformers":
            gen_kwargs = {**PLAIN, **gen_kwargs}
        if gen_kwargs:
            words += ["--gen_kwargs", json.dumps(gen_kwargs, ensure_ascii=False)]
        words += ["--seed", str(self.seed), "--batch_size", evaluation.batch_size]
        command = " ".join(shlex.quote(word) for word in words)
        if self.backend in IMAGE_BACKENDS and unused:
            return f"# lm-eval's {self.backend} does not use {', '.join(unused)}\n{command}"
        return command


def joined_origins(origins: Iterable[tuple[str, str]]) -> str:
    """The origin that all named baselines share, else `canary acc: …; gsm8k exact_match: …`."""
    known = [(name, origin) for name, origin in origins if origin]
    if len({origin for _, origin in known}) == 1:
        return known[0][1]
    return "; ".join(f"{name}: {origin}" for name, origin in known)


def make_plan(config: RunConfig, facts: Facts) -> Plan:
    """Settle every setting that the configuration leaves to the model."""
    model, engine = config.model, config.engine
    arguments = engine_args(config)
    # The platform has seen engine.env, and its answer is what the worker can live with.
    environment = {**engine.env, **facts.environment}
    known = _known(model, facts.series)
    evaluations = tuple(_evaluation(config, task, known) for task in config.task.names)
    engine_fingerprint = _fingerprint(
        {
            # Left out for vLLM, whose engines had their fingerprints before there was another.
            **({"runtime": engine.runtime} if engine.runtime != "vllm" else {}),
            "backend": backend(config),
            "platform": engine.platform,
            # Digests stand for the paths that files happen to lie at.
            "engine_args": by_content(
                {k: v for k, v in arguments.items() if k not in PLACES}, facts.paths
            ),
            "environment": {
                name: by_content(parts(text), facts.paths)
                for name, text in moving({**facts.inherited, **engine.env}).items()
            },
            "weights": facts.weights,
            **({"tokenizer": facts.tokenizer} if facts.tokenizer else {}),
            "versions": facts.versions,
            "code": facts.engine_code,
            "device": facts.device,
        }
    )
    asked = {
        "evaluations": [
            {k: v for k, v in asdict(each).items() if k not in NOT_ASKED} for each in evaluations
        ],
        "system_instruction": config.task.system_instruction,
        "gen_kwargs": config.task.gen_kwargs,
        "seed": config.task.seed,
        "data": facts.data,
        "code": facts.evaluation_code,
    }
    return Plan(
        model=model.name,
        backend=backend(config),
        platform=engine.platform,
        hardware=known.hardware,
        baseline_source=known.source,
        engine_args=arguments,
        environment=environment,
        evaluations=evaluations,
        system_instruction=config.task.system_instruction,
        gen_kwargs=config.task.gen_kwargs,
        seed=config.task.seed,
        data_source=config.source.data,
        data_dir=anywhere(config.task.data_dir),
        include_path=anywhere(config.task.include_path),
        task_files=dict(config.task.files),
        engine_fingerprint=engine_fingerprint,
        evaluation_fingerprint=_fingerprint(asked),
        runtime=engine.runtime,
        cluster=config.verdict.cluster if config.verdict.cluster not in NO_FIELD else None,
        window=engine.window,
        journal=_journal(config, engine_fingerprint),
        unread=facts.unread,
        overruled=facts.overruled,
        code=facts.engine_code,
        weights=facts.weights,
    )


def _known(model: ModelConfig, series: str | None) -> ModelConfig | SeriesConfig:
    """What is known of the model: on this very series if there is such a record."""
    on_series: SeriesConfig | None = model.by_series.get(series or "")
    return on_series or model


def _evaluation(config: RunConfig, task: str, known: ModelConfig | SeriesConfig) -> Evaluation:
    """The user's word for all tasks, else the model's for this one, else the original's."""
    asked = config.model.ask.get(task, AskConfig())

    def settle(name: str, default: Any) -> Any:
        for value in (getattr(config.task, name), getattr(asked, name)):
            if value is not None:
                return value
        return default

    chat = settle("apply_chat_template", True)
    return Evaluation(
        task=task,
        num_fewshot=settle("num_fewshot", None),
        apply_chat_template=chat,
        fewshot_as_multiturn=settle("fewshot_as_multiturn", chat),
        limit=settle("limit", None),
        batch_size=_batch_size(config, settle("batch_size", "auto")),
        baselines=known.baselines.get(task, {}),
        baseline_limit=asked.limit,
        origins=_origins(config.model, task, known),
    )


def _origins(
    model: ModelConfig, task: str, known: ModelConfig | SeriesConfig
) -> dict[str, dict[str, str]]:
    """By metric and filter; what Hydra did not compose is known by the model's own words."""
    series = [name for name, each in model.by_series.items() if each is known]
    above = f"model.by_series.{series[0]}" if series else "model"
    stated = "; ".join(part for part in (known.hardware, known.source) if part)
    return {
        metric: {
            name: model.origins.get(f"{above}.baselines.{task}.{metric}.{name}", stated)
            for name in filters
        }
        for metric, filters in known.baselines.get(task, {}).items()
    }


def _batch_size(config: RunConfig, asked: str) -> str:
    if config.engine.runtime == "transformers" and asked == "auto":
        return TRANSFORMERS_BATCH_SIZE
    return asked


def _journal(config: RunConfig, engine_fingerprint: str) -> JournalPlan | None:
    """Repeats of a run are there to be compared: each has a journal of its own."""
    journal, repeat = config.journal, config.sweep.repeat
    if not journal.enabled:
        return None
    name = f"{engine_fingerprint}-{repeat}" if repeat else engine_fingerprint
    return JournalPlan(str(Path(journal.dir).expanduser().resolve() / name), journal.max_gib)


def _fingerprint(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
