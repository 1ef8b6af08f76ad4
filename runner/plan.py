"""RunConfig → Plan: engine arguments, what is asked, and their fingerprints. Pure."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.config import AskConfig, ModelConfig, RunConfig, SeriesConfig

PLACES = ("pretrained", "tokenizer")


@dataclass(frozen=True)
class Facts:
    """What the plan needs to know about the machine and the weights, gathered before it is made."""

    versions: dict[str, str]
    device: str
    weights: str
    data: str
    environment: dict[str, str]
    # Of a tokenizer that is not the weights' own: its id or its files' digest; the hardware series
    # that a baseline may depend on; what the worker inherits that can move a number.
    tokenizer: str | None = None
    series: str | None = None
    inherited: dict[str, str] = field(default_factory=dict)


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

    @property
    def parallel_mode(self) -> str:
        """`TP2 + PP2 + EP`, as release notes write it."""
        parts = [f"TP{self.engine_args['tensor_parallel_size']}"]
        for short, name in (("PP", "pipeline_parallel_size"), ("DP", "data_parallel_size")):
            if self.engine_args.get(name, 1) > 1:
                parts.append(f"{short}{self.engine_args[name]}")
        if self.engine_args.get("enable_expert_parallel"):
            parts.append("EP")
        return " + ".join(parts)

    @property
    def baseline_origin(self) -> str:
        """What the baselines were measured on, and where they are written down."""
        return "; ".join(part for part in (self.hardware, self.baseline_source) if part)

    def lm_eval_command(self) -> str:
        """The lm-eval command line that asks the same, one for each way of asking."""
        lines = [f"export {k}={shlex.quote(v)}" for k, v in sorted(self.environment.items())]
        if self.data_dir:
            # `datasets` takes a directory below the working directory for the hub's data set.
            lines.append(f"cd {shlex.quote(self.data_dir)}")
        return "\n".join([*lines, *(self._command(each) for each in self.evaluations)])

    def _command(self, evaluation: Evaluation) -> str:
        words = ["lm_eval", "--model", self.backend]
        words += ["--model_args", json.dumps(self.engine_args, ensure_ascii=False)]
        words += ["--tasks", evaluation.task]
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
        if self.gen_kwargs:
            words += ["--gen_kwargs", json.dumps(self.gen_kwargs, ensure_ascii=False)]
        words += ["--seed", str(self.seed), "--batch_size", evaluation.batch_size]
        return " ".join(shlex.quote(word) for word in words)


def make_plan(config: RunConfig, facts: Facts) -> Plan:
    """Settle every setting that the configuration leaves to the model."""
    model, engine = config.model, config.engine
    arguments = engine_args(config)
    # The platform has seen engine.env, and its answer is what the worker can live with.
    environment = {**engine.env, **facts.environment}
    known = _known(model, facts.series)
    evaluations = tuple(_evaluation(config, task, known.baselines) for task in config.task.names)
    engine_fingerprint = _fingerprint(
        {
            "backend": model.backend,
            "platform": engine.platform,
            # Digests stand for the paths that weights and tokenizer happen to lie at.
            "engine_args": {k: v for k, v in arguments.items() if k not in PLACES},
            "environment": {**facts.inherited, **engine.env},
            "weights": facts.weights,
            **({"tokenizer": facts.tokenizer} if facts.tokenizer else {}),
            "versions": facts.versions,
            "device": facts.device,
        }
    )
    asked = {
        "evaluations": [
            {k: v for k, v in asdict(each).items() if k not in ("baselines", "batch_size")}
            for each in evaluations
        ],
        "system_instruction": config.task.system_instruction,
        "gen_kwargs": config.task.gen_kwargs,
        "seed": config.task.seed,
        "data": facts.data,
    }
    return Plan(
        model=model.name,
        backend=model.backend,
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
        data_dir=_anywhere(config.task.data_dir),
        include_path=_anywhere(config.task.include_path),
        engine_fingerprint=engine_fingerprint,
        evaluation_fingerprint=_fingerprint(asked),
    )


def engine_args(config: RunConfig) -> dict[str, Any]:
    """Keyword arguments of lm-eval's vLLM model class, which hands the rest to vLLM.

    Null means vLLM's or lm-eval's own default and is left out; `engine.extra` has the last word.
    """
    model, parallelism, engine = config.model, config.parallelism, config.engine
    chosen = {
        "pretrained": _anywhere(model.pretrained),
        "revision": model.revision,
        "tokenizer": _anywhere(model.tokenizer),
        "trust_remote_code": model.trust_remote_code,
        "max_images": model.max_images if model.backend == "vllm-vlm" else None,
        "enable_thinking": model.enable_thinking,
        "think_end_token": model.think_end_token,
        "chat_template_args": model.chat_template_args or None,
        "tensor_parallel_size": parallelism.tp,
        "pipeline_parallel_size": parallelism.pp if parallelism.pp > 1 else None,
        "data_parallel_size": parallelism.dp if parallelism.dp > 1 else None,
        "enable_expert_parallel": parallelism.ep or None,
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "quantization": engine.quantization,
        "enforce_eager": engine.enforce_eager,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "seed": engine.seed,
    }
    settled = {key: value for key, value in chosen.items() if value is not None}
    untested = engine.extra.get("additional_config", {})
    additional_config = {**engine.additional_config, **untested}
    if additional_config:
        return {**settled, **engine.extra, "additional_config": additional_config}
    return {**settled, **engine.extra}


def _known(model: ModelConfig, series: str | None) -> ModelConfig | SeriesConfig:
    """What is known of the model: on this very series if there is such a record."""
    on_series: SeriesConfig | None = model.by_series.get(series or "")
    return on_series or model


def _evaluation(
    config: RunConfig, task: str, baselines: dict[str, dict[str, dict[str, float]]]
) -> Evaluation:
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
        batch_size=settle("batch_size", "auto"),
        baselines=baselines.get(task, {}),
    )


def _anywhere(path: str | None) -> str | None:
    """A local path as it reads from every working directory; a hub id as it is."""
    if path is None or not Path(path).expanduser().exists():
        return path
    return str(Path(path).expanduser().resolve())


def _fingerprint(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
