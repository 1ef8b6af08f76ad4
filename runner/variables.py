"""Environment variables: which are recorded, and which of them can move a number.

Libraries gain variables with each release, so families are named here, and what is known to move
nothing. A variable that nobody has thought of counts as one that moves numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# By what their names begin with: Ascend, CUDA, ROCm, the engine, PyTorch, libraries of CPUs.
FAMILIES = (
    *("HCCL", "LCCL", "LCAL", "LCOC", "ATB", "ASDOPS", "ASCEND", "ACL", "ACLNN", "CANN", "NPU"),
    *("INF_NAN", "CLOSE_MATMUL", "TASK_QUEUE", "CPU_AFFINITY", "SOC"),
    *("NCCL", "CUDA", "CUBLAS", "CUBLASLT", "CUDNN", "CUTLASS", "NVIDIA_TF32", "NVTE"),
    *("HIP", "HIPBLASLT", "HSA", "ROCM", "ROCR", "RCCL", "MIOPEN"),
    *("VLLM", "LMCACHE", "FLASHINFER", "FLASH_ATTENTION", "FLASH_ATTN", "XFORMERS", "MINDIE"),
    *("TORCH", "PYTORCH", "TORCHINDUCTOR", "TORCHDYNAMO", "AOTINDUCTOR", "ATEN", "TRITON"),
    *("ONEDNN", "DNNL", "MKL", "MKLDNN", "OMP", "KMP", "GOMP", "OPENBLAS", "GOTO", "BLIS"),
    *("NPY", "NUMEXPR", "VECLIB", "TRANSFORMERS", "ACCELERATE"),
)
# By a part of their names, whoever reads them.
SUBJECTS = (
    *("DETERMINISTIC", "DETERMINISM", "PRECISION", "FPMATH", "MATMUL", "GEMM", "DENORMALS?"),
    *("EPLB", "EXPERT_MAP"),
    *("TF32", "BF16", "FP8", "FP16", "FP32", "FP64", "INT4", "INT8", "QUANT(?:IZATION)?"),
)
# What makes a process load other code: known, as PYTHONPATH is, by what lies there.
LOADED = re.compile(
    r"LD_PRELOAD|LD_AUDIT|\w+_SO_PATH|ASCEND_CUSTOM_OPP_PATH"
    r"|VLLM_(?:TUNED_CONFIG_FOLDER|MODEL_REDIRECT_PATH)"
)
# Which weights and data a run gets.
HUBS = (
    r"HF_(?:ENDPOINT|HOME|HUB_CACHE|HUB_OFFLINE|DATASETS_CACHE|DATASETS_OFFLINE)"
    r"|USE_MODELSCOPE_HUB|MODELSCOPE_(?:CACHE|DOMAIN|ENDPOINT)"
)
TELLING = re.compile(
    rf"(?:{'|'.join(FAMILIES)})_\w+|(?:\w+_)?(?:{'|'.join(SUBJECTS)})(?:_\w+)?|GLIBC_TUNABLES"
    rf"|PYTHONPATH|{LOADED.pattern}|{HUBS}"
)
# Where something lies, which device or node it is, who talks to whom, for how long, and how much is
# told about it: differs between machines and runs, and moves nothing.
ASIDE = re.compile(
    r"(?:\w+_)?(?:"
    r"VISIBLE_DEVICES|DEVICE_ORDER|(?:LOCAL_|DP_|NODE_)?RANK(?:_\w+)?|WORLD_SIZE|BUNDLE_INDICES"
    r"|AFFINITY(?:_\w+)?|PLACES|PROC_BIND|PROCESS_NAME_PREFIX"
    r"|PATH|HOME|ROOT|DIR|TMPDIR|(?<!KV_)CACHE"
    r"|IFNAME|IB_HCA|IPS?|HOST|ADDR|ADDRESS|URL|URI|ENDPOINT|PORTS?|PORT_RANGE|WHITELIST(?:_\w+)?"
    r"|TIMEOUT(?:_\w+)?|(?:S?LOG|LOGS|LOGGING|LOGLEVEL|DEBUG|VERBOSE|VERBOSITY|TRACE)(?:_\w+)?"
    r"|PROFILING|METRICS|STATS|USAGE_\w+|DO_NOT_TRACK|DISPLAY_ENV"
    r")|PYTHONPATH|(?:HF|TRANSFORMERS|MODELSCOPE)_.*|USE_MODELSCOPE_HUB|VLLM_USE_MODELSCOPE"
)


def switches(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that switch something: without what set_env.sh fills with paths."""
    return {
        name: text
        for name, text in variables.items()
        if name == "PYTHONPATH" or LOADED.fullmatch(name) or not text.startswith("/")
    }


def moving(variables: Mapping[str, str]) -> dict[str, str]:
    """Those whose values are part of an engine's fingerprint: they can move a number."""
    return {name: text for name, text in variables.items() if may_move(name)}


def may_move(name: str) -> bool:
    """Whether a variable that a user sets, or a worker inherits, can move a number."""
    return bool(LOADED.fullmatch(name)) or not ASIDE.fullmatch(name)


def parts(text: str) -> list[str]:
    """A variable's value, or the paths in it: LD_PRELOAD and the like hold several."""
    return text.split(":") if "/" in text and "://" not in text else [text]
