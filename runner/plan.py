"""Turns a RunConfig into a Plan: engine arguments, evaluations and fingerprints. Pure."""

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
# transformers applies the weights' generation_config.json to every answer; vLLM, called by lm-eval,
# does not. A repetition penalty (Qwen2.5-VL's is 1.05) also changes greedy answers.
PLAIN = {"repetition_penalty": 1.0}
# Arguments that have no effect in lm-eval 0.4.13's classes for images, but do here.
IMAGE_BACKENDS = ("vllm-vlm", "hf-multimodal")
UNUSED_FOR_IMAGES = ("chat_template_args", "enable_thinking", "think_end_token")


@dataclass(frozen=True)
class Facts:
    """Properties of the machine and the weights that the plan needs, collected beforehand."""

    versions: dict[str, str]
    device: str
    environment: dict[str, str]
    weights: str = "unknown"
    data: str = ""
    # `tokenizer`: id or files' digest of a tokenizer other than the weights' own. `series`: the
    # hardware series that a baseline may depend on. `inherited`: environment variables that the
    # worker inherits and that can change a result.
    tokenizer: str | None = None
    series: str | None = None
    inherited: dict[str, str] = field(default_factory=dict)
    # Digests of the code that runs the model, and of the code that sends requests and scores
    # answers.
    engine_code: dict[str, str] = field(default_factory=dict)
    evaluation_code: dict[str, str] = field(default_factory=dict)
    # `paths`: digest of the content of each path in engine.extra. `unread`: state of all files
    # that digests do not read completely.
    paths: dict[str, str] = field(default_factory=dict)
    unread: str = ""
    # Preflight problems that the user overrode.
    overruled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """One lm-eval task with its settings; None leaves a setting to lm-eval's task."""

    task: str
    num_fewshot: int | None
    apply_chat_template: bool
    fewshot_as_multiturn: bool
    limit: float | None
    batch_size: str
    baselines: dict[str, dict[str, float]]
    # The limit that the baselines were measured with.
    baseline_limit: float | None = None
    # Source of each baseline.
    origins: dict[str, dict[str, str]] = field(default_factory=dict)


# Fields that affect how an evaluation is judged or batched, but not which requests are sent.
NOT_ASKED = ("baselines", "baseline_limit", "origins", "batch_size")


@dataclass(frozen=True)
class JournalPlan:
    """The journal directory of this engine, and the size limit of the whole journal."""

    directory: str
    max_gib: float


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
    gen_kwargs: dict[str, Any]
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

    @property
    def devices(self) -> int:
        """Number of devices that the engine uses."""
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        return math.prod(int(self.engine_args.get(name, 1)) for name in sizes)

    @property
    def parallel_mode(self) -> str:
        """Parallelism as release notes write it, for example `TP2 + PP2 + EP`."""
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
        """Source of the baselines; one per metric if they differ."""
        return joined_origins(
            (f"{each.task} {metric},{name}".removesuffix(",none"), origin)
            for each in self.evaluations
            for metric, filters in each.origins.items()
            for name, origin in filters.items()
        )

    def lm_eval_command(self, greedy: Collection[str] = ()) -> str:
        """lm-eval command lines for the same evaluations, one for each task.

        `greedy` are tasks that set no sampling option: with lm-eval alone, vLLM would sample.
        """
        lines = [f"export {k}={shlex.quote(v)}" for k, v in sorted(self.environment.items())]
        if self.data_dir:
            # `datasets` loads a directory below the working directory instead of the
            # hub's data set of that name.
            lines.append(f"cd {shlex.quote(self.data_dir)}")
        return "\n".join(
            [*lines, *(self._command(each, each.task in greedy) for each in self.evaluations)]
        )

    def _command(self, evaluation: Evaluation, greedy: bool) -> str:
        words = ["lm_eval", "--model", self.backend]
        unused = [name for name in UNUSED_FOR_IMAGES if self.engine_args.get(name) is not None]
        arguments = dict(self.engine_args)
        device = arguments.pop("device", None)  # lm-eval's command line also passes its --device
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
    """The source that all given baselines share, else `canary acc: …; gsm8k exact_match: …`."""
    known = [(name, origin) for name, origin in origins if origin]
    if len({origin for _, origin in known}) == 1:
        return known[0][1]
    return "; ".join(f"{name}: {origin}" for name, origin in known)


def make_plan(config: RunConfig, facts: Facts) -> Plan:
    """The plan for a configuration, with every setting that it leaves open resolved."""
    model, engine = config.model, config.engine
    arguments = engine_args(config)
    # The platform has taken engine.env into account, so its values take precedence.
    environment = {**engine.env, **facts.environment}
    known = _known(model, facts.series)
    evaluations = tuple(_evaluation(config, task, known) for task in config.task.names)
    engine_fingerprint = _fingerprint(
        {
            # Left out for vLLM so that fingerprints from before there were other
            # runtimes stay the same.
            **({"runtime": engine.runtime} if engine.runtime != "vllm" else {}),
            "backend": backend(config),
            "platform": engine.platform,
            # Use digests of the content instead of paths, which differ between
            # machines.
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
    """The model's baselines and sources: those of this hardware series if there are any."""
    on_series: SeriesConfig | None = model.by_series.get(series or "")
    return on_series or model


def _evaluation(config: RunConfig, task: str, known: ModelConfig | SeriesConfig) -> Evaluation:
    """The task's settings: the user's value, else the model's for this task, else the default."""
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
    """Source of each baseline, by metric and filter.

    A baseline that Hydra did not compose has the source that the model's configuration states.
    """
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
    """The journal's settings; each repeat of a sweep has a journal of its own.

    Repeats exist to be compared, so they must not share answers.
    """
    journal, repeat = config.journal, config.sweep.repeat
    if not journal.enabled:
        return None
    name = f"{engine_fingerprint}-{repeat}" if repeat else engine_fingerprint
    return JournalPlan(str(Path(journal.dir).expanduser().resolve() / name), journal.max_gib)


def _fingerprint(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
