"""LoRA adapters: weights that an engine applies on top of a model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"


def is_adapter(directory: Path) -> bool:
    """Return whether the directory contains an adapter and no model."""
    return (directory / CONFIG).is_file() and not (directory / "config.json").is_file()


def as_model(directory: Path) -> str:
    """Return what to do with an adapter that was given as a model."""
    base = _mapping(directory / CONFIG).get("base_model_name_or_path") or "ITS_BASE_MODEL"
    return (
        f"model.pretrained={directory}: an adapter, not a model ({CONFIG} and no config.json in "
        f"it); set model=any model.pretrained={base} engine.extra.lora_local_path={directory} (or "
        f"engine.extra.peft={directory} with engine=transformers)"
    )


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
