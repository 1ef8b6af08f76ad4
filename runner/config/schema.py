"""The typed schema of conf/.

Hydra merges the group files into `RunConfig`. A default that reads `${model.serve.…}` means "as the
model is usually served": the model file states it once, a group file or the command line overrides
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II, MISSING

from runner.config.verdict import VerdictConfig
from runner.platforms.base import MEMORY_SHARE


@dataclass
class ServeConfig:
    """A model's usual serving layout: the defaults of `parallelism` and `engine`."""

    tp: int = 1
    pp: int = 1
    ep: bool = False
    max_model_len: int | None = None
    dtype: str = "auto"
    quantization: str | None = None
    enforce_eager: bool = False
    gpu_memory_utilization: float = MEMORY_SHARE


@dataclass
class AskConfig:
    """A model's usual task settings; if a value is null, lm-eval's default applies."""

    num_fewshot: int | None = None
    apply_chat_template: bool | None = None
    fewshot_as_multiturn: bool | None = None
    limit: float | None = None
    batch_size: str | None = None


@dataclass
class ModelConfig:
    """Weights, lm-eval's backend, and baselines measured on a known-good setup."""

    name: str = MISSING
    pretrained: str = MISSING
    # The hub that has the weights, and their id on ModelScope where it is another one.
    hub: str = "hf"
    modelscope: str | None = None
    backend: str = "vllm"
    revision: str | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    # The weights come with code that nothing installed replaces; only a user may trust it.
    needs_remote_code: bool = False
    max_images: int | None = None
    enable_thinking: bool | None = None
    think_end_token: str | None = None
    chat_template_args: dict[str, Any] = field(default_factory=dict)
    serve: ServeConfig = field(default_factory=ServeConfig)
    hardware: str | None = None
    source: str | None = None
    # OmegaConf cannot add to typed nested mappings from the command line: `loading` makes these
    # dict[task, AskConfig] and dict[task, dict[metric, dict[filter, float]]].
    ask: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, Any] = field(default_factory=dict)
    # Where a hardware series is known to score otherwise: dict[A2 | A3 | 310P | A5, SeriesConfig].
    by_series: dict[str, Any] = field(default_factory=dict)
    # The origin of each baseline by its key (runner/config/origins.py): found, never configured.
    origins: dict[str, str] = field(default_factory=dict, metadata={"omegaconf_ignore": True})


@dataclass
class SeriesConfig:
    """Baselines for one hardware series, which replace those of `ModelConfig`."""

    baselines: dict[str, Any] = MISSING
    hardware: str = MISSING
    source: str = MISSING


@dataclass
class SourceConfig:
    """The source of weights and data sets: a hub, or only this machine."""

    weights: str = II("model.hub")
    data: str = "hf"
    dir: str | None = None
    verify: str = "sampled"


@dataclass
class TaskConfig:
    """The lm-eval tasks, their data and settings; null takes the value of model.ask."""

    names: list[str] = MISSING
    # Task files by the names inside: what `names` has as paths is put here when it is loaded.
    files: dict[str, str] = field(default_factory=dict)
    data_dir: str | None = None
    include_path: str | None = None
    num_fewshot: int | None = None
    apply_chat_template: bool | None = None
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = None
    limit: float | None = None
    batch_size: str | None = None
    gen_kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int = 1234


@dataclass
class ParallelismConfig:
    """Tensor, pipeline, data and expert parallel sizes of one engine."""

    tp: int = II("model.serve.tp")
    pp: int = II("model.serve.pp")
    dp: int = 1
    ep: bool = II("model.serve.ep")

    @property
    def devices(self) -> int:
        """Number of devices that one engine uses."""
        return self.tp * self.pp * self.dp


@dataclass
class EngineConfig:
    """The engine and its platform: vLLM, or transformers as the reference engine."""

    platform: str = MISSING
    runtime: str = "vllm"
    max_model_len: int | None = II("model.serve.max_model_len")
    dtype: str = II("model.serve.dtype")
    quantization: str | None = II("model.serve.quantization")
    enforce_eager: bool = II("model.serve.enforce_eager")
    gpu_memory_utilization: float = II("model.serve.gpu_memory_utilization")
    seed: int = 0
    # Requests in flight where task.batch_size is auto; null: as many as the engine runs at once.
    window: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    # `loading` checks it against AdditionalConfig; open here, so that only what is set is recorded.
    additional_config: dict[str, Any] = field(default_factory=dict)
    # Each turns one kind of refusal into a warning (runner/preflight/problem.py): versions and keys
    # outside our tables; settings that other software is known to refuse or to lack; devices that
    # report an alarm; what does not fit by estimate.
    allow_untested: bool = False
    allow_unsupported: bool = False
    allow_unhealthy: bool = False
    allow_oversized: bool = False


@dataclass
class TrackingConfig:
    """The MLflow store for runs."""

    enabled: bool = True
    uri: str = MISSING
    experiment: str | None = None
    # What sending may take of a run's time; past it `python -m runner.sync` sends it later.
    timeout_s: float = 30.0


@dataclass
class LimitsConfig:
    """Timeouts in seconds (null: none) and the number of retries."""

    # Until the engine is ready; while it makes no step; all attempts together.
    start_s: float | None = None
    stall_s: float | None = None
    run_s: float | None = None
    retries: int = 0


@dataclass
class JournalConfig:
    """The journal: answers of unfinished runs, kept for the next attempt."""

    enabled: bool = True
    dir: str = "journal"
    max_gib: float = 4.0


@dataclass
class SweepConfig:
    """Settings for all points of a sweep."""

    strict: bool = False
    # Tells points apart that are otherwise the same: each repeat has an engine of its own.
    repeat: int = 0
    # The sweep that a point belongs to; set where it is started.
    id: str | None = None
    # What tells the point from the others (`tp=1 max_model_len=512`); set with the id.
    point: str | None = None


@dataclass
class RunConfig:
    """The complete configuration of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    parallelism: ParallelismConfig = field(default_factory=ParallelismConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    objective: str = "accuracy"
    output_dir: str = MISSING
    preflight_only: bool = False
