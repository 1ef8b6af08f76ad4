"""Compares the memory estimate with what a real engine reports: the table of docs/memory.md.

    python -m benchmarks.memory_estimate [CASE …] [--json]

Small models of known architectures with random weights are written with transformers, so that their
files use the same names as on the hub. vLLM's CPU build then builds each of them
(`load_format=dummy`), one process per engine, and reports the bytes of its parameters on each rank,
before the CPU kernels repack them, and its KV cache specs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from runner.canary import WEIGHTS
from runner.memory import Layout, estimate, stored_weights
from runner.platforms.cpu import Cpu
from runner.supervision.processes import shared_memory_of

PROJECT = Path(__file__).parent.parent
LENGTH = 2048  # length of the one sequence that must fit, in tokens
PREFIX = "measured: "

_DECODER = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_EXPERTS = {
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 256,
    "decoder_sparse_step": 1,
}
# model_type → class in transformers and its configuration.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    # vLLM pads this vocabulary, and runs these float32 files in 16 bits.
    "llama": (
        "LlamaForCausalLM",
        {
            **_DECODER,
            "vocab_size": 8100,
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "dtype": "float32",
        },
    ),
    # Layers in 8-bit integers with a scale for each row, as compressed-tensors stores them.
    "llama_w8a8": ("LlamaForCausalLM", {**_DECODER, "hidden_size": 1024}),
    # One key-value head, which both ranks store.
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**_DECODER, **_EXPERTS, "num_key_value_heads": 1}),
    "deepseek_v2": (
        "DeepseekV2ForCausalLM",
        {
            **_DECODER,
            "num_key_value_heads": 8,
            "q_lora_rank": 256,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "head_dim": 64,
            "n_routed_experts": 16,
            "n_shared_experts": 2,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 256,
            "first_k_dense_replace": 1,
            "topk_method": "greedy",
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    "gemma3_text": (
        "Gemma3ForCausalLM",
        {
            **_DECODER,
            "num_hidden_layers": 12,
            "head_dim": 128,
            "sliding_window": 256,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_next": (
        "Qwen3NextForCausalLM",
        {
            **_DECODER,
            **_EXPERTS,
            "num_hidden_layers": 8,
            "head_dim": 128,
            "shared_expert_intermediate_size": 256,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 8,
            "linear_key_head_dim": 64,
            "linear_value_head_dim": 64,
        },
    ),
}
# The canary with wider layers: changes to its text_config and vision_config.
_WIDER = {
    "text_config": {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 16},
    "vision_config": {"hidden_size": 640, "intermediate_size": 1280, "out_hidden_size": 512},
}
W8A8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "strategy": "token",
                "symmetric": True,
                "dynamic": True,
            },
        }
    },
}
# Name of the case → the model and the tensor parallel size.
CASES: dict[str, tuple[str, int]] = {
    "canary": ("canary", 1),
    "canary-tp2": ("canary", 2),
    "qwen2_5_vl": ("qwen2_5_vl", 1),
    "qwen2_5_vl-tp2": ("qwen2_5_vl", 2),
    "llama": ("llama", 1),
    "llama-tp2": ("llama", 2),
    "llama_w8a8": ("llama_w8a8", 1),
    "llama_w8a8-tp2": ("llama_w8a8", 2),
    "qwen3_moe": ("qwen3_moe", 1),
    "qwen3_moe-tp2": ("qwen3_moe", 2),
    "deepseek_v2": ("deepseek_v2", 1),
    "deepseek_v2-tp2": ("deepseek_v2", 2),
    "gemma3": ("gemma3_text", 1),
    "qwen3_next": ("qwen3_next", 1),
}


class Probe:
    """Mixin for vLLM's worker (`worker_extension_cls`) that reports its memory."""

    def memory(self: Any) -> dict[str, Any]:
        from vllm.v1.core.kv_cache_utils import max_memory_usage_bytes

        model = self.model_runner.model
        specs = self.get_kv_cache_spec()
        growing = [
            spec
            for spec in specs.values()
            if type(spec).__name__ in ("FullAttentionSpec", "MLAAttentionSpec")
        ]
        return {
            "weights": model.bytes_as_loaded,
            "per_token": sum(spec.page_size_bytes / spec.block_size for spec in growing),
            "sequence": max_memory_usage_bytes(self.vllm_config, specs.values()),
            "specs": sorted({type(spec).__name__ for spec in specs.values()}),
        }


def weigh_models_as_loaded() -> None:
    """Record the size of a model's weights before the CPU kernels repack them."""
    from vllm.model_executor.model_loader import base_loader

    original = base_loader.process_weights_after_loading

    def weigh_first(model: Any, *arguments: Any) -> None:
        parameters = {id(each): each for each in model.parameters()}.values()
        model.bytes_as_loaded = sum(each.numel() * each.element_size() for each in parameters)
        original(model, *arguments)

    base_loader.process_weights_after_loading = weigh_first


def write_model(kind: str, directory: Path) -> None:
    """Write model files with transformers, which names tensors like the files on the hub."""
    import torch
    import transformers

    if kind == "qwen2_5_vl":
        shutil.copytree(WEIGHTS, directory, dirs_exist_ok=True)
        config = transformers.AutoConfig.from_pretrained(WEIGHTS)
        for part, changes in _WIDER.items():
            for key, value in changes.items():
                setattr(getattr(config, part), key, value)
        transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(directory)
        return
    name, values = ARCHITECTURES[kind]
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**{"dtype": "bfloat16", **values}))
    if values.get("dtype") != "float32":
        model = model.to(torch.bfloat16)
    model.save_pretrained(directory)
    if kind == "llama_w8a8":
        quantize(directory)


def quantize(directory: Path) -> None:
    """Replace the weights with 8-bit integers of the right stored size; all are zero."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for name in [name for name in tensors if "proj" in name]:
        rows = tensors[name].shape[0]
        tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.int8)
        tensors[f"{name}_scale"] = torch.ones(rows, 1, dtype=torch.float32)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    file = directory / "config.json"
    config = {**json.loads(file.read_text()), "quantization_config": W8A8}
    file.write_text(json.dumps(config))


def measure(case: str) -> dict[str, Any]:
    """Estimated and reported memory of one case; starts its engine in this process."""
    from vllm import LLM

    kind, tp = CASES[case]
    with tempfile.TemporaryDirectory() as temporary:
        directory = WEIGHTS if kind == "canary" else Path(temporary)
        if kind != "canary":
            write_model(kind, directory)
        model = json.loads((directory / "config.json").read_text())
        layout = Layout(tp=tp, max_model_len=LENGTH)
        estimated = estimate(model, stored_weights(directory), layout)
        engine = LLM(
            model=str(directory),
            load_format="dummy",
            skip_tokenizer_init=kind in ARCHITECTURES,
            tensor_parallel_size=tp,
            max_model_len=LENGTH,
            max_num_seqs=8,
            enforce_eager=True,
            worker_extension_cls="benchmarks.memory_estimate.Probe",
        )
        ranks = engine.collective_rpc("memory")
        cache = engine.llm_engine.vllm_config.cache_config
        pool_bytes_per_token = 1024**3 / (cache.num_gpu_blocks * cache.block_size)
        end(engine)
    return {
        "case": case,
        "tp": tp,
        "specs": ranks[0]["specs"],
        "weights": {"estimated": estimated.weight_bytes, "reported": ranks[0]["weights"]},
        "kv_per_token": {
            "estimated": estimated.kv_bytes_per_token,
            "reported": ranks[0]["per_token"],
        },
        "kv_sequence": {"estimated": estimated.kv_bytes, "reported": ranks[0]["sequence"]},
        "pool_bytes_per_token": pool_bytes_per_token,
        "notes": estimated.notes,
    }


def end(engine: Any) -> None:
    """Shut the engine down and remove the shared memory of ranks that vLLM had to kill."""
    held = shared_memory_of(psutil.Process().children(recursive=True))
    engine.llm_engine.engine_core.shutdown()
    for segment in held:
        segment.unlink(missing_ok=True)


def error(pair: dict[str, float]) -> float:
    """Relative error of the estimate."""
    return pair["estimated"] / pair["reported"] - 1


def run(case: str) -> dict[str, Any]:
    """Result of `measure` in a separate process."""
    tp = CASES[case][1]
    environment = {
        **os.environ,
        **Cpu().worker_environment(tp),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "MEMORY_ESTIMATE_PROBE": "1",
    }
    environment["PYTHONPATH"] += os.pathsep + str(PROJECT)
    command = [sys.executable, "-m", "benchmarks.memory_estimate", "--measure", case]
    ended = subprocess.run(
        command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    for line in ended.stdout.splitlines():
        if line.startswith(PREFIX):
            found: dict[str, Any] = json.loads(line.removeprefix(PREFIX))
            return found
    raise RuntimeError(f"{case}: {ended.stdout[-3000:]}{ended.stderr[-6000:]}")


HEAD = """\
| model | tp | weights a rank, MB: estimated | reported | error \
| KV bytes a token: estimated | reported | error | one sequence, error |
|---|---|---|---|---|---|---|---|---|"""


def row(found: dict[str, Any]) -> str:
    """A case as a row of the table."""
    weights, token = found["weights"], found["kv_per_token"]
    cells = [
        found["case"].removesuffix("-tp2"),
        found["tp"],
        *(f"{weights[key] / 1e6:.3f}" for key in ("estimated", "reported")),
        f"{error(weights):+.3%}",
        *(f"{token[key]:.0f}" for key in ("estimated", "reported")),
        f"{error(token):+.2%}",
        f"{error(found['kv_sequence']):+.2%}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE")
    parser.add_argument("--json", action="store_true", help="every number, a line a case")
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(PREFIX + json.dumps(measure(arguments.measure)))
        return
    if not arguments.json:
        print(HEAD, flush=True)
    for case in arguments.cases or CASES:
        found = run(case)
        print(json.dumps(found) if arguments.json else row(found), flush=True)


if __name__ == "__main__":
    main()
elif os.environ.get("MEMORY_ESTIMATE_PROBE") == "1":
    weigh_models_as_loaded()
