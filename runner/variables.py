"""Environment variables: which ones are recorded, and which of them can change a result.

Libraries add variables with each release, so whole families are listed here, together with the
names that are known to have no effect. A variable that is in neither list counts as one that can
change a result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Name prefixes: Ascend, CUDA, ROCm, the engine, PyTorch, CPU libraries.
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
# Parts of names that matter whichever library reads them.
SUBJECTS = (
    *("DETERMINISTIC", "DETERMINISM", "PRECISION", "FPMATH", "MATMUL", "GEMM", "DENORMALS?"),
    *("EPLB", "EXPERT_MAP"),
    *("TF32", "BF16", "FP8", "FP16", "FP32", "FP64", "INT4", "INT8", "QUANT(?:IZATION)?"),
)
# Variables that make a process load other code. Like PYTHONPATH, they are identified by the content
# of the paths.
LOADED = re.compile(
    r"LD_PRELOAD|LD_AUDIT|\w+_SO_PATH|ASCEND_CUSTOM_OPP_PATH"
    r"|VLLM_(?:TUNED_CONFIG_FOLDER|MODEL_REDIRECT_PATH)"
)
# Variables that decide which weights and data a run gets.
HUBS = (
    r"HF_(?:ENDPOINT|HOME|HUB_CACHE|HUB_OFFLINE|DATASETS_CACHE|DATASETS_OFFLINE)"
    r"|USE_MODELSCOPE_HUB|MODELSCOPE_(?:CACHE|DOMAIN|ENDPOINT)"
)
TELLING = re.compile(
    rf"(?:{'|'.join(FAMILIES)})_\w+|(?:\w+_)?(?:{'|'.join(SUBJECTS)})(?:_\w+)?|GLIBC_TUNABLES"
    rf"|PYTHONPATH|{LOADED.pattern}|{HUBS}"
)
# Names without an effect on results, which differ between machines and runs: paths, devices and
# ranks, network addresses, timeouts, logging.
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
    """The variables that are settings, without those that set_env.sh fills with paths."""
    return {
        name: text
        for name, text in variables.items()
        if name == "PYTHONPATH" or LOADED.fullmatch(name) or not text.startswith("/")
    }


def moving(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change a result; their values are part of an engine's fingerprint."""
    return {name: text for name, text in variables.items() if may_move(name)}


def may_move(name: str) -> bool:
    """Whether a variable that the user sets, or a worker inherits, can change a result."""
    return bool(LOADED.fullmatch(name)) or not ASIDE.fullmatch(name)


def parts(text: str) -> list[str]:
    """The paths in a variable's value (LD_PRELOAD can hold several), or the value itself."""
    return text.split(":") if "/" in text and "://" not in text else [text]
