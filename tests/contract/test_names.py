"""The names of lm-eval and vLLM that the runner relies on, and that neither promises to keep."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from runner.platforms import cpu

NAMES = (
    "lm_eval.evaluator:add_env_info",
    "lm_eval.evaluator:get_git_commit_hash",
    "lm_eval.models.vllm_causallms:LLM",
    "lm_eval.tasks._index:load_yaml",
    "lm_eval.tasks._index:TaskIndex",
    "lm_eval.tasks._index:Entry",
    "lm_eval.tasks._factory:TaskFactory",
    "lm_eval.tasks:TaskManager.task_index",
    "lm_eval.api.task:Task.fewshot_context",
    "lm_eval.api.task:ConfigurableTask.construct_requests",
    "transformers:Qwen2_5_VLProcessor._get_num_multimodal_tokens",
    "vllm:LLM.collective_rpc",
    "vllm:LLM.enqueue",
    "vllm:LLM.get_metrics",
    "vllm.v1.engine.llm_engine:LLMEngine.step",
    "vllm.v1.engine.llm_engine:LLMEngine.abort_request",
    "vllm.v1.engine.llm_engine:LLMEngine.reset_encoder_cache",
    "vllm.v1.worker.gpu_input_batch:InputBatch.req_ids",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.execute_model",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.get_model",
    "vllm.model_executor.layers.linear:ColumnParallelLinear",
    "vllm.model_executor.layers.linear:QKVParallelLinear",
    "vllm.model_executor.layers.linear:RowParallelLinear",
    "vllm.v1.sample.logits_processor:LogitsProcessor",
    "vllm.v1.sample.logits_processor:BatchUpdate",
    "vllm.v1.sample.logits_processor.interface:MoveDirectionality",
)
# By function: parameters, or text of its source.
PARAMETERS = {
    "vllm:LLM.enqueue": ("lora_request", "use_tqdm"),
    "vllm.v1.engine.llm_engine:LLMEngine.abort_request": ("internal",),
}
SOURCES = {
    "lm_eval.api.task:Task.__init__": "self._filters = ",
    "vllm.model_executor.layers.linear:QKVParallelLinear.__init__": "self.num_kv_head_replicas = ",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.__init__": "self.requests",
    "lm_eval.api.task:ConfigurableTask.__init__": "self._filters = ",
    "vllm.v1.engine.core_client:InprocClient.__init__": "self.engine_core = ",
}
SCRIPT = """
import functools, importlib, inspect, json, sys
def find(name):
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))
names, parameters, sources = json.loads(sys.argv[1])
found = {}
for name in {*names, *parameters, *sources}:
    try:
        thing = find(name)
    except (ImportError, AttributeError) as error:
        found[name] = repr(error)
        continue
    missing = set(parameters.get(name, ())) - set(inspect.signature(thing).parameters) \\
        if name in parameters else set()
    if missing or (name in sources and sources[name] not in inspect.getsource(thing)):
        found[name] = str(sorted(missing) or sources[name])
print(json.dumps(found))
"""


def missing(names: tuple[str, ...]) -> dict[str, str]:
    """Names that are not there as expected, with the reason."""
    words = [sys.executable, "-c", SCRIPT, json.dumps([names, PARAMETERS, SOURCES])]
    done = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(cpu.SITE)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_names_that_the_runner_relies_on_are_there() -> None:
    unknown = "lm_eval.api.task:Task.of_another_release"
    assert list(missing((*NAMES, unknown))) == [unknown]
