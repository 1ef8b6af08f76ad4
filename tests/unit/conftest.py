"""One fixed run, whole: each test changes what it is about and leaves the rest as it is."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from runner import run
from runner.config import loading, places
from runner.config.schema import (
    AskConfig,
    EngineConfig,
    ModelConfig,
    ParallelismConfig,
    RunConfig,
    TaskConfig,
    TrackingConfig,
)
from runner.config.usage import explain, is_usage_error
from runner.config.verdict import VerdictConfig
from runner.environment import Environment
from runner.errors import UserError
from runner.outcome import MetricResult, Outcome, State, TaskOutcome
from runner.plan import Plan
from runner.planning import Facts, make_plan
from runner.platforms import PLATFORMS, Device
from runner.preflight import store
from runner.tracking.courier import Courier
from runner.verdict import Verdict, judge
from tests.baselines import exact

# What imports torch itself, which `make unit` does not install. In CI they run, or fail.
NEED_TORCH = (
    "test_generation.py",
    "test_mistakes.py",
    "test_template.py",
    "test_transformers_classes.py",
    "test_transformers_journal.py",
)
WITHOUT_TORCH = importlib.util.find_spec("torch") is None and not os.environ.get("CI")
collect_ignore = list(NEED_TORCH) if WITHOUT_TORCH else []


def pytest_report_header() -> str:
    """Name what is left out."""
    return f"left out without torch: {', '.join(NEED_TORCH)}" if WITHOUT_TORCH else "with torch"


# What uses them starts MLflow's database, or a process that imports MLflow.
SLOW_FIXTURES = {"empty_store", "shared"}


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use MLflow as slow."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through all that was imported, again and again."""
    gc.collect()
    gc.freeze()


# What a test leaves open: no machine of its own, and no store.
NEUTRAL = ("engine=cpu", "tracking=off")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process looks at or says once for all points of a sweep, it does in each test."""
    monkeypatch.setattr(PLATFORMS["ascend"], "_kept", None)
    store._answer.cache_clear()
    run._warn.cache_clear()
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def compose() -> Callable[..., RunConfig]:
    """Compose and check conf/ with overrides; every complaint comes as UserError, as in `main`."""
    loading.register()
    directory = str(loading.config_directory())

    def hydras(*overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(directory, version_base="1.3"):
            made = hydra.compose("config", list(overrides))
        OmegaConf.set_readonly(made, True)  # it is shared, and `load` has no need to change it
        return made

    again = cache(hydras)

    def composed(*overrides: str) -> RunConfig:
        chosen = {override.partition("=")[0] for override in overrides}
        neutral = [each for each in NEUTRAL if each.partition("=")[0] not in chosen]
        ours = not places.own_directories and "searchpath" not in " ".join(overrides)
        try:
            return loading.load((again if ours else hydras)(*neutral, *overrides))
        except Exception as error:
            if not is_usage_error(error):
                raise
            raise UserError(explain(error)) from error

    return composed


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        model=ModelConfig(
            name="fixed",
            pretrained="/weights/fixed",
            backend="vllm",
            ask={"gsm8k": AskConfig(num_fewshot=5)},
            hardware="Atlas A2 Series",
            baselines={"gsm8k": exact({"exact_match": {"strict-match": 0.765}})},
        ),
        task=TaskConfig(names=["gsm8k"]),
        parallelism=ParallelismConfig(tp=2, pp=1, dp=1, ep=False),
        engine=EngineConfig(
            platform="ascend",
            max_model_len=4096,
            dtype="bfloat16",
            quantization=None,
            enforce_eager=False,
            gpu_memory_utilization=0.8,
            window=None,
        ),
        verdict=VerdictConfig(),
        tracking=TrackingConfig(enabled=False, uri=""),
        output_dir="out",
    )


@pytest.fixture
def facts() -> Facts:
    return Facts(
        versions={"vllm": "0.23.0", "vllm-ascend": "0.23.0", "torch": "2.10.0"},
        device="Ascend",
        weights="3f" * 32,
        data="",
        environment={"VLLM_WORKER_MULTIPROC_METHOD": "spawn"},
    )


@pytest.fixture
def plan(config: RunConfig, facts: Facts) -> Plan:
    return make_plan(config, facts)


@pytest.fixture
def environment() -> Environment:
    return Environment(
        packages={
            "vllm": "0.23.0",
            "vllm-ascend": "0.23.0rc1",
            "torch": "2.10.0",
            "torch-npu": "2.10.0.post4",
            "transformers": "5.5.4",
            "lm-eval": "0.4.13",
            "ascend-accuracy-runner": "0.1.0",
        },
        commits={"vllm": "1234567890abcdef1234567890abcdef12345678"},
        toolkit={"cann": "9.1.0", "driver": "25.0.rc1.1", "firmware": "7.7.0.1.231"},
        python="3.11.9",
        os="Linux",
        cpu="Kunpeng-920",
        cores=192,
        platform="ascend",
        devices=(Device(0, "Ascend 910B4", 64 << 30), Device(1, "Ascend 910B4", 64 << 30)),
        project_commit="fedcba9876543210fedcba9876543210fedcba98",
        project_dirty=False,
        pip_freeze=("torch==2.10.0", "vllm==0.23.0"),
    )


@pytest.fixture
def metric() -> MetricResult:
    return MetricResult(
        task="gsm8k",
        metric="exact_match",
        filter="strict-match",
        value=0.77,
        stderr=0.0116,
        n=1319,
        higher_is_better=True,
        binary=True,
    )


@pytest.fixture
def outcome(metric: MetricResult) -> Outcome:
    return Outcome(
        state=State.COMPLETED,
        tasks=(
            TaskOutcome(
                task="gsm8k",
                metrics=(metric,),
                expected=1319,
                evaluated=1319,
                seconds=100.0,
                output_tokens=5000,
            ),
        ),
        engine={
            "architectures": ["Qwen3ForCausalLM"],
            "dtype": "bfloat16",
            "max_model_len": 4096,
            "block_size": 128,
            "num_gpu_blocks": 1000,
            "cudagraph_mode": "FULL_AND_PIECEWISE",
        },
        timings={"start_engine_s": 42.0},
    )


@pytest.fixture
def verdict(outcome: Outcome, plan: Plan) -> Verdict:
    return judge(outcome, plan.evaluations, VerdictConfig())


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables, to be copied: making them takes MLflow seconds."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)  # MLflow makes its folder for artifacts where it is
        MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store_file(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test's own store, in the working directory: what another sent is not in it."""
    monkeypatch.chdir(tmp_path)  # where MLflow would put artifacts of an experiment
    return Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def shared() -> Iterator[Courier]:
    """Its process imports MLflow once for all tests, and survives their faults."""
    with Courier() as courier:
        yield courier


@pytest.fixture
def courier(shared: Courier) -> Courier:
    shared._failures = 0
    return shared


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a damaged copy of the canary and returns its directory."""
    from runner.canary.damaged import write_damaged  # with torch, which few tests need
    from runner.canary.faults import file_faults

    def write(key: str) -> Path:
        write_damaged(file_faults()[key], tmp_path / key)
        return tmp_path / key

    return write
