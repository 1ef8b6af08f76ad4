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
    "short_request_first_config": "ShortRequestFirstConfig",
    "batch_job_sched_config": "BatchJobSchedConfig",
    "sparse_kv_offload_config": "SparseKVOffloadConfig",
}


def strings(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Keys taken out of a mapping of one of these names: .get(k), [k], `k in`, by a helper."""
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "get" and _named(node.func.value, names):
                key = node.args[0]
            elif node.func.attr == "_get_config_value":
                # Of one mapping or of two, then the key: whichever holds it first.
                mappings = [each for each in node.args[:2] if _named(each, names)]
                place = next((n for n, each in enumerate(node.args) if _is_text(each)), 0)
                key = node.args[place] if mappings and place else None
        elif isinstance(node, ast.Subscript) and _named(node.value, names):
            key = node.slice
        elif isinstance(node, ast.Compare) and _named(node.comparators[0], names):
            key = node.left
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


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
    """Every key that vllm-ascend reads, by the mapping that holds it; "" holds those at the top."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in (tree / "vllm_ascend").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "additional_config" in text:
            found[""] |= set(strings(ast.parse(text), {"additional_config"}))
    module = ast.parse((tree / "vllm_ascend" / "ascend_config.py").read_text(encoding="utf-8"))
    classes = {node.name for node in module.body if isinstance(node, ast.ClassDef)}
    for key, reader in READERS.items():
        if reader in classes:
            found[key] = reading_class(module, reader)
    for key in ("hamming_sparse", "scheduler_config"):
        found[key] = set(strings(module, {key}))
    if found["scheduler_config"]:
        # At the top they are deprecated, and this runner takes them in their new place alone.
        found[""] -= found["scheduler_config"]
    return {key: names for key, names in found.items() if names}


def test_every_mapping_is_whole(release: str, read: dict[str, set[str]]) -> None:
    assert mappings(schema.schema(release)) == read


def mappings(kind: type[Any], name: str = "") -> dict[str, set[str]]:
    """The names in a schema and in all below it, by the key that holds each."""
    hints = get_type_hints(kind)
    found = {name: {each.name for each in fields(kind)}}
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            found |= mappings(hints[each.name], each.name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"enable_flashcom1": True},
        {"ascend_compilation_config": {"enable_npugraphs_ex": False}},
        {"xlite_graph_config": {"enable": True}},
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
