"""Where preflight and vllm-ascend 0.23.0 are known to judge differently, and why that is right."""

from __future__ import annotations

from tests.contract.judge import WE, Difference

EXPLAINED = {
    Difference(WE, "310P", "engine.dtype"): (
        "vllm-ascend resolves bfloat16 on a 310P without a word (Platform.supported_dtypes is not "
        "overridden), though the chip computes none; the engine fails once it is started."
    ),
    Difference(WE, "310P", "VLLM_BATCH_INVARIANT"): (
        "Its configuration path never looks at the series; the kernels exist for A2 and A3 alone, "
        "and where they are missing the worker warns and goes on without (batch_invariant.py)."
    ),
}
