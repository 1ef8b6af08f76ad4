"""Turns a RunConfig into a Plan: engine arguments, evaluations and fingerprints. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.config.rules import LENGTHS
from runner.config.schema import AskConfig, ModelConfig, RunConfig, SeriesConfig, TaskConfig
from runner.config.verdict import NO_FIELD
from runner.inputs.paths import absolute, by_content
from runner.plan import PLACES, Evaluation, JournalPlan, Plan, ReplayPlan
from runner.runtimes import Runtime, runtime_of
from runner.variables import moving, parts

# Engine arguments that say where files and servers are, and how long a client waits.
ELSEWHERE = (*PLACES, "server")

# Fields that affect how an evaluation is judged or batched, but not which requests are sent.
NOT_ASKED = ("baselines", "baseline_limit", "origins", "batch_size")


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
    replay: ReplayPlan | None = None
    # Preflight problems that the user overrode.
    overruled: tuple[str, ...] = ()


def make_plan(config: RunConfig, facts: Facts) -> Plan:
    """The plan for a configuration, with every setting that it leaves open resolved."""
    model, engine = config.model, config.engine
    runtime = runtime_of(engine.runtime)
    arguments = runtime.arguments(config)
    # The platform has taken engine.env into account, so its values take precedence.
    environment = {**engine.env, **facts.environment}
    known = _known(model, facts.series)
    evaluations = tuple(_evaluation(config, runtime, task, known) for task in config.task.names)
    engine_fingerprint = _fingerprint(
        {
            # Left out for vLLM so that fingerprints from before there were other
            # runtimes stay the same.
            **({"runtime": engine.runtime} if engine.runtime != "vllm" else {}),
            "backend": runtime.backend(model),
            "platform": engine.platform,
            # Use digests of the content instead of paths, which differ between
            # machines.
            "engine_args": by_content(
                {k: v for k, v in arguments.items() if k not in ELSEWHERE}, facts.paths
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
        "seed": config.task.seed,
        "data": facts.data,
        "code": facts.evaluation_code,
        # Left out without one, so that fingerprints of earlier versions stay the same.
        **({"replay": facts.replay.digest} if facts.replay else {}),
        **(
            {"questions": facts.replay.questions} if facts.replay and facts.replay.questions else {}
        ),
        **({"sequential": True} if config.verdict.sequential else {}),
    }
    return Plan(
        model=model.name,
        backend=runtime.backend(model),
        platform=engine.platform,
        hardware=known.hardware,
        baseline_source=known.source,
        engine_args=arguments,
        environment=environment,
        evaluations=evaluations,
        system_instruction=config.task.system_instruction,
        seed=config.task.seed,
        data_source=config.source.data,
        data_dir=absolute(config.task.data_dir),
        include_path=absolute(config.task.include_path),
        task_files=dict(config.task.files),
        engine_fingerprint=engine_fingerprint,
        evaluation_fingerprint=_fingerprint(asked),
        runtime=engine.runtime,
        cluster=config.verdict.cluster if config.verdict.cluster not in NO_FIELD else None,
        python=engine.interpreter.path,
        window=engine.window,
        journal=_journal(config, engine_fingerprint) if runtime.identified(config) else None,
        identified=runtime.identified(config),
        unread=facts.unread,
        overruled=facts.overruled,
        code=facts.engine_code,
        weights=facts.weights,
        replay=facts.replay,
        distributions=config.task.distributions and facts.replay is None,
        sequential=config.verdict.sequential,
    )


def _known(model: ModelConfig, series: str | None) -> ModelConfig | SeriesConfig:
    """The model's baselines and sources: those of this hardware series if there are any."""
    on_series: SeriesConfig | None = model.by_series.get(series or "")
    return on_series or model


def _evaluation(
    config: RunConfig, runtime: Runtime, task: str, known: ModelConfig | SeriesConfig
) -> Evaluation:
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
        batch_size=runtime.batch_size(settle("batch_size", "auto")),
        baselines=known.baselines.get(task, {}),
        baseline_limit=asked.limit,
        origins=_origins(config.model, task, known),
        samples=settle("samples", 1),
        gen_kwargs=_generation(config.task, asked),
    )


def _generation(task: TaskConfig, asked: AskConfig) -> dict[str, Any]:
    """Generation settings: the user's override the model's, key by key."""
    settings: dict[str, Any] = {}
    for given in (asked, task):
        length = {} if given.max_gen_toks is None else {"max_gen_toks": given.max_gen_toks}
        if length or any(name in given.gen_kwargs for name in LENGTHS):
            settings = {k: v for k, v in settings.items() if k not in LENGTHS}
        settings |= given.gen_kwargs | length
    return settings


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


def _journal(config: RunConfig, engine_fingerprint: str) -> JournalPlan | None:
    """The journal's settings; each repeat of a sweep has a journal of its own.

    Repeats exist to be compared, so they must not share answers.
    """
    journal, repeat = config.journal, config.sweep.repeat
    if not journal.enabled:
        return None
    name = f"{engine_fingerprint}-{repeat}" if repeat else engine_fingerprint
    directory = Path(journal.dir).expanduser().resolve() / name
    return JournalPlan(str(directory), journal.max_gib, absolute(journal.continues))


def _fingerprint(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
