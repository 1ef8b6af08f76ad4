"""vLLM's and vllm-ascend's own word on engine arguments: `python upstream.py A2|A3|310P`.

A process of its own, with the unpacked wheels ahead on its path. Cases come in as JSON lines
(`{"id", "args", "env"}`), answers go out likewise. vllm-ascend keeps what one configuration settled
in module globals (whether flashcomm is on, whether the model is MoE), so every case is answered by
a fork: it inherits the imports, which are slow, and its state dies with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

CASE_S = 120


class _Configured(Exception):
    """Carries the resolved configuration out of `LLM()`, where an engine would start."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


def prepare(series: str) -> None:
    """Everything slow that all cases share, and that does not depend on a case."""
    import stubs

    stubs.install(series)
    from vllm.platforms import current_platform

    current_platform.pre_register_and_update()
    from vllm.entrypoints import llm
    from vllm.model_executor.models import registry

    # Model classes are only looked at; a process for each would import everything once more.
    registry._run_in_subprocess = lambda fn: fn()

    class Engine:
        @classmethod
        def from_engine_args(cls, engine_args: Any, usage_context: Any, **_: Any) -> Any:
            raise _Configured(engine_args.create_engine_config(usage_context))

    llm.LLMEngine = Engine


def learn(modules: list[str]) -> None:
    """Import what a first case had to import: each later fork would do so again."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    # What never is collected is never written to, and stays shared with the forks.
    gc.collect()
    gc.freeze()


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """What `vllm.LLM(**args)`, or `vllm serve` with replicas, resolves to, or how it refuses."""
    os.environ.update(case.get("env", {}))
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.llm import LLM
    from vllm.usage.usage_lib import UsageContext

    # No tokenizer lies beside a bare config.json, and none takes part in what is asked here.
    args = {**case["args"], "skip_tokenizer_init": True}
    try:
        if "data_parallel_size" in args:  # LLM has none
            served = AsyncEngineArgs(**args)
            raise _Configured(served.create_engine_config(UsageContext.OPENAI_API_SERVER))
        LLM(**args)
    except _Configured as resolved:
        return {"accepted": facts(resolved.config)}
    except Exception as error:
        said = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {
            "refused": said,
            "type": type(error).__name__,
            "where": f"{place.filename}:{place.lineno}",
        }
    return {"refused": "an engine was started", "type": "AssertionError", "where": __file__}


def facts(config: Any) -> dict[str, Any]:
    """What a run would be: the settings that can change a number the engine produces."""
    from vllm_ascend.ascend_config import get_ascend_config

    model, parallel, cache = config.model_config, config.parallel_config, config.cache_config
    ascend, graph = get_ascend_config(), config.compilation_config
    return {
        "architecture": model.architecture,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization,
        "quant_config": type(config.quant_config).__name__ if config.quant_config else None,
        "max_model_len": model.max_model_len,
        "enforce_eager": model.enforce_eager,
        "cudagraph_mode": graph.cudagraph_mode.name,
        "compilation_mode": getattr(graph.mode, "name", str(graph.mode)),
        "use_inductor": graph.use_inductor,
        "block_size": cache.block_size,
        "kv_cache_dtype": cache.cache_dtype,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "enable_prefix_caching": cache.enable_prefix_caching,
        "enable_chunked_prefill": config.scheduler_config.enable_chunked_prefill,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "expert_parallel": parallel.enable_expert_parallel,
        "executor": str(parallel.distributed_executor_backend),
        "worker_cls": parallel.worker_cls,
        "seed": model.seed,
        "trust_remote_code": model.trust_remote_code,
        "additional_config": sorted(config.additional_config or {}),
        "draft_tokens": config.num_speculative_tokens,
        "enable_flashcomm1": bool(ascend.enable_flashcomm1),
        "weight_nz_mode": ascend.weight_nz_mode,
        "alloc_conf": os.environ.get("PYTORCH_NPU_ALLOC_CONF"),
    }


def in_a_fork(case: dict[str, Any]) -> dict[str, Any]:
    """Answer one case in a child, whose state and environment end with it."""
    reader, writer = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        status = 1
        try:
            gc.disable()
            os.close(reader)
            signal.alarm(CASE_S)
            before = set(sys.modules)
            answered = answer(case)
            # What remote code defines stays in its fork: the name may mean another model's next.
            new = [name for name in sys.modules if name not in before and "." in name]
            answered["imported"] = [name for name in new if "transformers_modules" not in name]
            with os.fdopen(writer, "w") as out:
                json.dump(answered, out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, ended = os.waitpid(child, 0)
    result = json.loads(text) if ended == 0 else {"died": os.waitstatus_to_exitcode(ended)}
    return {"id": case["id"], **result, "seconds": round(time.monotonic() - started, 3)}


def main(series: str, lines: Iterator[str], answers: Any) -> None:
    prepare(series)
    for line in lines:
        case = json.loads(line)
        result = in_a_fork(case)
        if imported := result.pop("imported", []):
            learn(imported)
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    # Libraries print to stdout as they please; the answers keep a descriptor to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(sys.argv[1], iter(sys.stdin), answers)
