"""The shipped models: docs/models.md says what each brings, and is held to it here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.loading import config_directory
from runner.config.schema import RunConfig

Shipped = Callable[[str], RunConfig]
DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
NAMES = sorted(
    file.stem for file in (config_directory() / "model").glob("*.yaml") if file.stem != "any"
)
NPU_MODELS = [name for name in NAMES if not name.startswith("canary_")]


@pytest.fixture(scope="module")
def shipped(compose: Callable[..., RunConfig]) -> Shipped:
    """A model as its file has it: composed once for all tests, which change nothing."""
    return functools.cache(lambda name: compose("engine=ascend", f"model={name}"))


def row(config: RunConfig) -> str:
    """A line of the table in docs/models.md."""
    model, engine = config.model, config.engine
    sizes = config.parallelism
    layout = f"tp {sizes.tp}" + (f", dp {sizes.dp}" if sizes.dp > 1 else "")
    layout += ", ep" if sizes.ep else ""
    layout += ", eager" if engine.enforce_eager else ""
    kind = "".join(f", {each}" for each in (engine.quantization,) if each)
    kind += f", {engine.dtype}" if engine.dtype != "auto" else ""
    asked = []
    for task in config.task.names:
        ask = model.ask[task]
        parts = ["lm-eval's own shots" if ask.num_fewshot is None else f"{ask.num_fewshot}-shot"]
        parts += ["chat template"] if ask.apply_chat_template else []
        parts += [f"first {ask.limit:.0f}"] if ask.limit else []
        parts += [f"at most {ask.max_gen_toks} tokens"] if ask.max_gen_toks else []
        values = ", ".join(
            f"{metric},{name} {known.value:g}"
            + (f" ± {known.tolerance:g}" if known.tolerance else "")
            for metric, filters in model.baselines[task].items()
            for name, known in filters.items()
        )
        asked.append(f"{task} ({', '.join(parts)}): {values}")
    elsewhere = f", ModelScope {model.modelscope}" if model.modelscope else ""
    elsewhere += " (ModelScope)" if model.hub == "modelscope" else ""
    if "engine=endpoint" in text(model.name):
        layout, share = "servers on several nodes", "–"
    else:
        share = f"{engine.gpu_memory_utilization:g}"
    length = engine.max_model_len or "–"
    return (
        f"| `{model.name}` | {model.pretrained}{elsewhere} | {layout}{kind} | {length} | {share} | "
        f"{'; '.join(asked)} |"
    )


def text(name: str) -> str:
    return (config_directory() / "model" / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NPU_MODELS)
def test_the_document_says_what_a_model_brings(shipped: Shipped, name: str) -> None:
    assert row(shipped(name)) in DOCUMENT.read_text(encoding="utf-8").splitlines()


def test_the_document_names_no_other_model() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    documented = [
        line.split("`")[1]
        for line in document.splitlines()
        if line.startswith("| `") and "`model=`" not in line
    ]
    assert sorted(documented) == NPU_MODELS


@pytest.mark.parametrize("name", NAMES)
def test_every_asked_task_has_a_baseline_and_where_it_comes_from(
    shipped: Shipped, name: str
) -> None:
    config = shipped(name)
    assert config.model.name == name
    assert set(config.task.names) == set(config.model.baselines)
    assert config.model.source


@pytest.mark.parametrize("name", NAMES)
def test_code_that_comes_with_weights_is_never_trusted_by_a_file_of_ours(
    shipped: Shipped, name: str
) -> None:
    assert shipped(name).model.trust_remote_code is False


def test_a_layout_with_data_parallelism_says_which_engine_it_needs(shipped: Shipped) -> None:
    for name in NPU_MODELS:
        assert ("engine=served" in text(name)) is (shipped(name).parallelism.dp > 1), name
