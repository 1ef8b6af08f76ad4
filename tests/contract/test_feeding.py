"""What the stream of requests calls of vLLM: the one that vllm-ascend stands on, and ours."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from runner.runtimes.vllm.speculation import ACCEPTED, BY_POSITION, DRAFTED, DRAFTS
from tests.contract.conftest import tree_of
from tests.contract.wheels import RELEASES


@pytest.fixture(params=["installed", *RELEASES])
def vllm(request: pytest.FixtureRequest) -> Path:
    if request.param in RELEASES:
        return tree_of(request.param) / "vllm"
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None, "the extra [cpu] brings vLLM"
    return Path(spec.origin).parent


def function(file: Path, class_name: str, name: str) -> ast.FunctionDef:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for each in node.body:
                if isinstance(each, ast.FunctionDef) and each.name == name:
                    return each
    raise AssertionError(f"{file} has no {class_name}.{name}")


def parameters(found: ast.FunctionDef) -> list[str]:
    return [each.arg for each in (*found.args.args, *found.args.kwonlyargs)]


def test_enqueue_takes_what_is_given(vllm: Path) -> None:
    found = function(vllm / "entrypoints" / "llm.py", "LLM", "enqueue")
    assert parameters(found)[1:3] == ["prompts", "sampling_params"]
    assert {"lora_request", "use_tqdm"} <= set(parameters(found))


def test_the_engine_steps_and_aborts(vllm: Path) -> None:
    engine = vllm / "v1" / "engine" / "llm_engine.py"
    assert parameters(function(engine, "LLMEngine", "step")) == ["self"]
    assert parameters(function(engine, "LLMEngine", "abort_request")) == [
        "self",
        "request_ids",
        "internal",
    ]


def test_an_internal_id_begins_with_the_one_in_the_outputs(vllm: Path) -> None:
    file = vllm / "v1" / "engine" / "input_processor.py"
    found = ast.unparse(function(file, "InputProcessor", "assign_request_id"))
    assert "request.external_req_id = request.request_id" in found
    assert "f'{request.external_req_id}-{random_uuid():.8}'" in found


def test_drafted_tokens_are_counted_by_these_names(vllm: Path) -> None:
    engine = vllm / "v1" / "engine" / "llm_engine.py"
    assert "self.log_stats" in ast.unparse(function(engine, "LLMEngine", "get_metrics"))
    assert parameters(function(vllm / "entrypoints" / "llm.py", "LLM", "get_metrics")) == ["self"]
    counters = (vllm / "v1" / "spec_decode" / "metrics.py").read_text(encoding="utf-8")
    for name in (DRAFTS, DRAFTED, ACCEPTED, BY_POSITION):
        assert f'"{name}"' in counters


def test_only_final_outputs_are_asked_for(vllm: Path) -> None:
    places = ("entrypoints/common/offline.py", "entrypoints/offline_utils.py")
    (file,) = (vllm / place for place in places if (vllm / place).exists())
    source = ast.unparse(function(file, "OfflineInferenceMixin", "_add_request"))
    assert "params.output_kind = RequestOutputKind.FINAL_ONLY" in source


def test_the_cache_of_preprocessed_images_can_be_left_out(vllm: Path) -> None:
    assert "mm_processor_cache_gb: float" in (vllm / "engine" / "arg_utils.py").read_text()
