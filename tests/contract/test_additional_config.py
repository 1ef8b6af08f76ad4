"""The typed schema of vllm-ascend's own options has what vllm-ascend reads, and nothing else."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import hydra
import pytest

from runner.config import loading
from runner.errors import UserError
from runner.platforms import additional_config as schema
from tests.contract.client import Upstream
from tests.contract.grid import Case

# The class of ascend_config.py that reads a nested mapping, by the key of that mapping.
READERS = {
    "xlite_graph_config": "XliteGraphConfig",
    "ascend_compilation_config": "AscendCompilationConfig",
    "ascend_fusion_config": "AscendFusionConfig",
    "finegrained_tp_config": "FinegrainedTPConfig",
    "eplb_config": "EplbConfig",
    "weight_prefetch_config": "WeightPrefetchConfig",
    "profiling_chunk_config": "ProfilingChunkConfig",
    "rejection_sampler_config": "RejectionSamplerConfig",
}


def strings(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Keys taken out of a mapping of one of these names: .get(k), [k], `k in`, by a helper."""
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "get" and _named(node.func.value, names):
                key = node.args[0]
            elif node.func.attr == "_get_config_value" and _named(node.args[0], names):
                key = node.args[1]
        elif isinstance(node, ast.Subscript) and _named(node.value, names):
            key = node.slice
        elif isinstance(node, ast.Compare) and _named(node.comparators[0], names):
            key = node.left
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _named(node: ast.expr, names: set[str]) -> bool:
    return (isinstance(node, ast.Name) and node.id in names) or (
        isinstance(node, ast.Attribute) and node.attr in names
    )


def reading_class(tree: ast.Module, name: str) -> set[str]:
    """Keys that a class of ascend_config.py takes: by .get, as parameters, or from its defaults."""
    (found,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    init = next(n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    parameters = {argument.arg for argument in init.args.args} - {"self"}
    if init.args.kwarg:  # the mapping is spread: AscendCompilationConfig(**mapping)
        return parameters | set(strings(init, {init.args.kwarg.arg}))
    defaults = [
        n.value
        for n in found.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "_defaults"
    ]
    if defaults and isinstance(defaults[0], ast.Dict):
        return {ast.literal_eval(key) for key in defaults[0].keys if key is not None}
    return set(strings(init, parameters))


@pytest.fixture(scope="module")
def read(tree: Path) -> dict[str, set[str]]:
    """Every key that vllm-ascend reads; "" holds those at the top."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in (tree / "vllm_ascend").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "additional_config" in text:
            found[""] |= set(strings(ast.parse(text), {"additional_config"}))
    module = ast.parse((tree / "vllm_ascend" / "ascend_config.py").read_text(encoding="utf-8"))
    for key, reader in READERS.items():
        found[key] = reading_class(module, reader)
    found["hamming_sparse"] = set(strings(module, {"hamming_sparse"}))
    return dict(found)


def test_the_top_is_whole(read: dict[str, set[str]]) -> None:
    assert {each.name for each in fields(schema.AdditionalConfig)} == read[""]


def test_every_nested_mapping_is_whole(read: dict[str, set[str]]) -> None:
    hints = get_type_hints(schema.AdditionalConfig)
    ours = {
        each.name: {inner.name for inner in fields(hints[each.name])}
        for each in fields(schema.AdditionalConfig)
        if is_dataclass(hints[each.name])
    }
    assert ours == {key: names for key, names in read.items() if key}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"enable_flashcom1": True},
        {"ascend_compilation_config": {"enable_npugraphs_ex": False}},
        {"weight_prefetch_config": {"enable": True}},
    ],
    ids=str,
)
def test_a_typing_error_is_passed_over_upstream_and_refused_here(
    options: dict[str, Any], upstream: Callable[[str], Upstream]
) -> None:
    args = {**Case("A2", "qwen3_8b").engine_args(), "additional_config": options}
    assert upstream("A2").ask(args).refused is None
    loading.register()
    directory = str(loading.config_directory())
    with (
        pytest.raises(UserError, match=r"engine\.additional_config"),
        hydra.initialize_config_dir(directory, version_base="1.3"),
    ):
        chosen = ["model=qwen3_8b", "engine=ascend", "tracking=off", "output_dir=unused"]
        composed = hydra.compose(
            "config", [*chosen, f"+engine.additional_config={_hydra(options)}"]
        )
        loading.load(composed)


@pytest.mark.slow
def test_eplb_alone_is_strict_upstream(upstream: Callable[[str], Upstream]) -> None:
    args = Case("A2", "qwen3_30b_a3b").engine_args()
    answer = upstream("A2").ask({**args, "additional_config": {"eplb_config": {"typo": 1}}})
    assert "typo" in str(answer.refused)


def _hydra(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(inner)}" for key, inner in value.items()) + "}"
    return str(value).lower()
