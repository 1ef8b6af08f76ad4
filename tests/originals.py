"""Model files as vllm-ascend's accuracy test reads them: its keys, our own values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TEXT = """\
model_name: "owner/Some-7B-Instruct"
model_type: "vllm"
hardware: "Atlas A2 Series"

serve:
  tensor_parallel_size: 2
  dtype: bfloat16
  max_model_len: 8192
  gpu_memory_utilization: 0.75
  enforce_eager: true
  enable_expert_parallel: true
  trust_remote_code: true
  quantization: ascend
  enable_thinking: false

tasks:
- name: "gsm8k"
  metrics:
  - name: "exact_match,strict-match"
    value: 0.62
  - name: "exact_match,flexible-extract"
    value: 0.71
- name: "ceval-valid"
  metrics:
  - name: "acc,none"
    value: 1

num_fewshot: 5
limit: 200
apply_chat_template: true
fewshot_as_multiturn: false
batch_size: 32
"""
BARE = {
    "model_name": "owner/Bare-1B",
    "tasks": [{"name": "gsm8k", "metrics": [{"name": "exact_match,strict-match", "value": 0.5}]}],
}


def write(file: Path, content: dict[str, Any] | str) -> Path:
    """The file, its directory made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return file
