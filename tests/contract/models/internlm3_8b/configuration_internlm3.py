"""What this model's own configuration class has to know for its config.json to be read.

A stand-in written for these tests, for the class of that name which comes with the weights.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class InternLM3Config(PretrainedConfig):
    model_type = "internlm3"

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
