"""Read a YAML file of vllm-ascend's tests."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from runner.errors import UserError


def read(file: Path) -> dict[str, Any]:
    """Return the content of the file.

    Raises:
        UserError: if it cannot be read or is not a mapping.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: must be a mapping with model_name and tasks, or with test_cases")
    return {str(key): value for key, value in content.items()}


def slug(text: str) -> str:
    """Return the text as a model name: lower case, with underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "model"


def identity(file: Path) -> str:
    """Return the file's name and the start of its digest."""
    return f"{file.name} (SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]})"
