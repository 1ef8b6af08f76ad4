"""The typed schema of conf/. The line under a field is its meaning in --help and docs/keys.md.

Hydra merges the group files into `RunConfig`. A default that reads `${model.serve.…}` means "as the
model is usually served": the model file states it once, a group file or the command line overrides
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II, MISSING

from runner.config.suite import SuiteConfig
from runner.config.verdict import VerdictConfig
from runner.interpreters import Interpreter, interpreter_of
from runner.platforms.base import MEMORY_SHARE


@dataclass
class ServeConfig:
    """A model's usual serving settings: the defaults of `parallelism` and `engine`."""

    tp: int = 1
    """Tensor-parallel size."""
    pp: int = 1
    """Pipeline-parallel size."""
    dp: int = 1
    """Data-parallel size."""
    ep: bool = False
    """Whether experts are distributed over the devices (expert parallel)."""
    max_model_len: int | None = None
    """Longest prompt plus answer, in tokens; null: the model's own limit."""
    dtype: str = "auto"
    """Data type of weights and activations, or auto."""
    quantization: str | None = None
    """Quantization method; null: what the weights' config.json says."""
    enforce_eager: bool = False
    """Whether to run without graph mode."""
    gpu_memory_utilization: float = MEMORY_SHARE
    """Share of each device's memory that the engine may use."""
    window: int | None = None
    """Concurrent requests if task.batch_size=auto; null: as many as the engine runs, up to 256."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further arguments of vLLM; engine.extra takes precedence, key by key."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of vLLM; engine.env takes precedence, key by key."""
    additional_config: dict[str, Any] = field(default_factory=dict)
    """vllm-ascend's additional_config; engine.additional_config takes precedence, key by key."""


@dataclass
class AskConfig:
    """A model's usual task settings; if a value is null, lm-eval's default applies."""

    num_fewshot: int | None = None
    """Number of few-shot examples."""
    apply_chat_template: bool | None = None
    """Whether prompts go through the chat template."""
    fewshot_as_multiturn: bool | None = None
    """Whether few-shot examples are chat turns."""
    limit: float | None = None
    """task.limit with which the baselines were measured: a number, or a share (below 1)."""
    batch_size: str | None = None
    """lm-eval's batch size: a number, or auto."""
    samples: int | None = None
    """How often each question is asked; null: once."""
    max_gen_toks: int | None = None
    """Longest answer with its reasoning, in tokens; null: the task's own."""
    gen_kwargs: dict[str, Any] = field(default_factory=dict)
    """Generation settings that the model's card recommends: {temperature: 0.6, top_p: 0.95}."""


@dataclass
class ModelConfig:
    """Weights, lm-eval's backend, and baselines measured on a known-good setup."""

    name: str = MISSING
    """Name in reports, aliases and MLflow."""
    pretrained: str = MISSING
    """Hub id or directory of the weights."""
    hub: str = "hf"
    """Hub that publishes the weights: hf or modelscope."""
    modelscope: str | None = None
    """Id on ModelScope if it differs from `pretrained`."""
    backend: str = "vllm"
    """lm-eval's model class: vllm (text), vllm-vlm (images), or auto."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    tokenizer: str | None = None
    """Hub id or directory of another tokenizer; null: the one that comes with the weights."""
    trust_remote_code: bool = False
    """Whether to run Python code that comes with the weights."""
    needs_remote_code: bool = False
    """Whether the weights cannot be loaded without their own code."""
    max_images: int | None = None
    """Maximum number of images per question; null: lm-eval's limit."""
    enable_thinking: bool | None = None
    """Value of the chat template's `enable_thinking`; null: not passed."""
    think_end_token: str | None = None
    """Token (text or id) that ends the reasoning; the answer is what follows it."""
    chat_template_args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the chat template."""
    serve: ServeConfig = field(default_factory=ServeConfig)
    """How the model is usually served: defaults of `parallelism` and `engine`."""
    hardware: str | None = None
    """Hardware on which the baselines were measured."""
    source: str | None = None
    """Where the baselines come from."""
    # OmegaConf cannot add to typed nested mappings from the command line: `loading` makes these
    # dict[task, AskConfig] and dict[task, dict[metric, dict[filter, Baseline]]].
    ask: dict[str, Any] = field(default_factory=dict)
    """Default task settings of the model, by task: {gsm8k: {num_fewshot: 5}}."""
    baselines: dict[str, Any] = field(default_factory=dict)
    """Expected values: {task: {metric: {filter: value}}}, or {value: 0.9, n: 30, samples: 1}."""
    by_series: dict[str, Any] = field(default_factory=dict)
    """Baselines for other chip series: {A3: {baselines: …}}."""
    # The origin of each baseline by its key (runner/config/origins.py): found, never configured.
    origins: dict[str, str] = field(default_factory=dict, metadata={"omegaconf_ignore": True})


@dataclass
class SeriesConfig:
    """Baselines for one hardware series, which replace those of `ModelConfig`."""

    baselines: dict[str, Any] = MISSING
    """Expected values on this series."""
    hardware: str = MISSING
    """Hardware on which they were measured."""
    source: str = MISSING
    """Where they come from."""


@dataclass
class SourceConfig:
    """The source of weights and data sets: a hub, or only this machine."""

    weights: str = II("model.hub")
    """Where weights come from: hf, modelscope or local."""
    data: str = "hf"
    """Where data sets come from: hf, modelscope or local."""
    dir: str | None = None
    """Directory made by `python -m runner.prepare`; only used with local."""
    verify: str = "sampled"
    """How prepared files are verified: sampled (fast) or whole (every byte)."""


@dataclass
class TaskConfig:
    """The lm-eval tasks, their data and settings; null takes the value of model.ask."""

    names: list[str] = MISSING
    """lm-eval tasks or groups, or paths of task files."""
    files: dict[str, str] = field(default_factory=dict)
    """Task files by task name; filled in from `names`."""
    data_dir: str | None = None
    """Directory with the data sets of the tasks; null: the hub or its cache."""
    include_path: str | None = None
    """Directory with further lm-eval task files."""
    num_fewshot: int | None = None
    """Number of few-shot examples; null: `model.ask`, else the task's own."""
    apply_chat_template: bool | None = None
    """Whether prompts go through the chat template; null: `model.ask`, else true."""
    fewshot_as_multiturn: bool | None = None
    """Whether few-shot examples are chat turns; null: `model.ask`, else apply_chat_template."""
    system_instruction: str | None = None
    """System message of every prompt."""
    limit: float | None = None
    """First N questions of each task, or a share (below 1); null: `model.ask`, else all."""
    batch_size: str | None = None
    """auto keeps the engine full, a number sends fixed batches; null: `model.ask`, else auto."""
    gen_kwargs: dict[str, Any] = field(default_factory=dict)
    """Generation settings that override those of model.ask and the task: {temperature: 0.6}."""
    samples: int | None = None
    """How often each question is asked, each time with another seed; null: `model.ask`, else 1."""
    max_gen_toks: int | None = None
    """Longest answer with its reasoning, in tokens; null: `model.ask`, else the task's own."""
    seed: int = 1234
    """Seed for sampled answers, few-shot examples and shuffled choices."""
    distributions: bool = False
    """Whether to record the 20 likeliest tokens of each step, for verdict=replay."""


@dataclass
class ParallelismConfig:
    """Tensor, pipeline, data and expert parallel sizes of one engine."""

    tp: int = II("model.serve.tp")
    """Tensor-parallel size."""
    pp: int = II("model.serve.pp")
    """Pipeline-parallel size."""
    dp: int = II("model.serve.dp")
    """Data-parallel size."""
    ep: bool = II("model.serve.ep")
    """Whether experts are distributed over the devices (expert parallel)."""

    @property
    def devices(self) -> int:
        """Number of devices that one engine uses."""
        return self.tp * self.pp * self.dp


@dataclass
class EndpointConfig:
    """A server that is already running (engine=endpoint); it is neither started nor stopped."""

    url: str | None = None
    """URL of its OpenAI-compatible API: http://host:8000/v1."""
    model: str | None = None
    """Name under which it serves the model; null: the only one that it serves."""
    label: str | None = None
    """Your name for this engine; while it stays the same, answers of unfinished runs are kept."""
    api_key_env: str | None = None
    """Name of the environment variable that holds its API key."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further HTTP headers."""
    ca_file: str | None = None
    """File of the certificate authority that signed its certificate; null: the usual ones."""
    probe: bool = True
    """Whether to check repeatability and cross-talk before the evaluation; sends extra requests."""


@dataclass
class EngineConfig:
    """The engine and its platform."""

    platform: str = MISSING
    """Device type: ascend, cuda or cpu; remote for a server that is already running."""
    runtime: str = "vllm"
    """Inference library: vllm, server (vllm serve), endpoint (a running server), transformers."""
    python: str | None = None
    """Interpreter of another environment for engine and lm-eval; null: the runner's own."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    max_model_len: int | None = II("model.serve.max_model_len")
    """Longest prompt plus answer, in tokens; null: the model's own limit."""
    dtype: str = II("model.serve.dtype")
    """Data type of weights and activations, or auto."""
    quantization: str | None = II("model.serve.quantization")
    """Quantization method; null: what the weights' config.json says."""
    enforce_eager: bool = II("model.serve.enforce_eager")
    """Whether to run without graph mode."""
    gpu_memory_utilization: float = II("model.serve.gpu_memory_utilization")
    """Share of each device's memory that the engine may use."""
    seed: int = 0
    """The engine's random seed; sampled answers depend on task.seed instead."""
    window: int | None = II("model.serve.window")
    """Concurrent requests if task.batch_size=auto; null: as many as the engine runs, up to 256."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further engine arguments, passed on unchanged: {block_size: 128}."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of the engine: {HCCL_DETERMINISTIC: "true"}."""
    # `loading` checks it against AdditionalConfig; open here, so that only what is set is recorded.
    additional_config: dict[str, Any] = field(default_factory=dict)
    """vllm-ascend's additional_config; keys and types are checked."""
    # Each turns one kind of refusal into a warning (runner/problem.py): versions and keys
    # outside our tables; settings that other software is known to refuse or to lack; devices that
    # report an alarm; what does not fit by estimate.
    allow_untested: bool = False
    """Turn rejections of untested versions and unknown vllm-ascend options into warnings."""
    allow_unsupported: bool = False
    """Turn rejections of settings that are known not to work into warnings."""
    allow_unhealthy: bool = False
    """Turn rejections of devices that report an alarm into warnings."""
    allow_oversized: bool = False
    """Turn rejections of models that do not fit in memory by estimate into warnings."""

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter of the worker."""
        return interpreter_of(self.python, self.env)

    @property
    def spans_nodes(self) -> bool:
        """Whether Ray places the engine's ranks, on this node and others."""
        return bool(self.extra.get("distributed_executor_backend") == "ray")


@dataclass
class TrackingConfig:
    """The MLflow store for runs."""

    enabled: bool = True
    """Whether runs are recorded in MLflow."""
    uri: str = MISSING
    """MLflow tracking URI."""
    experiment: str | None = None
    """MLflow experiment; null: the names of the tasks."""
    timeout_s: float = 30.0
    """Timeout of an upload in seconds; `python -m runner.sync` uploads later."""


@dataclass
class LimitsConfig:
    """Timeouts in seconds (null: none) and the number of retries."""

    start_s: float | None = None
    """Seconds until the engine must be ready; null: no limit."""
    stall_s: float | None = None
    """Seconds without a new token, or without a server, before the run stops; null: no limit."""
    request_s: float = 1800.0
    """Seconds for one request to a server."""
    run_s: float | None = None
    """Seconds for all attempts together; null: no limit."""
    retries: int = 0
    """How often a failure that may be transient is retried."""


@dataclass
class JournalConfig:
    """The journal: answers of unfinished runs, kept for the next attempt."""

    enabled: bool = True
    """Whether answers are kept so that an interrupted run can resume."""
    dir: str = "journal"
    """Directory of the journal."""
    max_gib: float = 4.0
    """Size limit of the journal, in GiB; the oldest answers are removed first."""
    continues: str | None = None
    """Directory of a run that `verdict.sequential` stopped: ask its other questions as well."""


@dataclass
class SweepConfig:
    """Settings for all points of a sweep."""

    strict: bool = False
    """Whether one rejected point cancels the whole sweep."""
    repeat: int = 0
    """Repetition number; sweep over 0,1,… to repeat points, each on its own engine."""
    id: str | None = None
    """Id of the sweep; set by the runner."""
    point: str | None = None
    """Name of the point; set by the runner."""


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
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    objective: str = "accuracy"
    """What an Optuna sweep optimizes: accuracy, throughput or seconds."""
    output_dir: str = MISSING
    """Directory for the files of the run."""
    preflight_only: bool = False
    """Run all checks, and stop before the engine starts."""
    lang: str | None = None
    """Language of reports and verdicts: en or zh; null: LC_ALL, LC_MESSAGES or LANG has it."""

    @property
    def ranks_here(self) -> int:
        """Number of the engine's ranks on this machine; 0 if Ray places them."""
        return 0 if self.engine.spans_nodes else self.parallelism.devices
