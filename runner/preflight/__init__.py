"""Refuse, before anything heavy, what cannot work. Every problem is named, not only the first."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.config import RunConfig
from runner.errors import UserError
from runner.platforms import PLATFORMS
from runner.weights import Weights, find_weights

SERVER_TIMEOUT_S = 3.0


def check(config: RunConfig) -> Weights:
    """Look at platform, weights, layout, data and tracking.

    Raises:
        UserError: with a line for each thing that cannot work.
    """
    problems = _platform_problems(config)
    weights: Weights | None = None
    try:
        weights = find_weights(config.model.pretrained, config.model.revision)
    except UserError as error:
        problems += error.problems
    if weights is not None:
        problems += _layout_problems(config, weights.config)
    problems += _data_problems(config)
    problems += _tracking_problems(config)
    if problems or weights is None:
        raise UserError(*problems)
    return weights


def warnings(config: RunConfig) -> list[str]:
    """What a user should know now, though the run goes on."""
    parts = urlsplit(config.tracking.uri)
    if not config.tracking.enabled or parts.scheme not in ("http", "https"):
        return []
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=SERVER_TIMEOUT_S).close()
    except OSError as error:
        return [
            f"tracking.uri={config.tracking.uri}: the server does not answer ({error}); the run "
            "goes on, and its results stay in the run directory"
        ]
    return []


def _platform_problems(config: RunConfig) -> list[str]:
    platform = PLATFORMS[config.engine.platform]
    missing = platform.missing()
    problems = [f"engine={platform.name}: {line}" for line in missing]
    if config.parallelism.dp > 1 and platform.name != "cuda":
        problems.append(
            f"parallelism.dp={config.parallelism.dp}: lm-eval asks Ray for GPUs, which a machine "
            f"with engine={platform.name} never has, and would wait for ever; use dp=1"
        )
    if not missing:
        try:
            platform.worker_environment(ranks(config))
        except UserError as error:
            problems += error.problems
    return problems


def ranks(config: RunConfig) -> int:
    """Devices that one engine takes: tp×pp×dp."""
    return config.parallelism.tp * config.parallelism.pp * config.parallelism.dp


def _layout_problems(config: RunConfig, model: dict[str, Any]) -> list[str]:
    problems = []
    text: dict[str, Any] = model.get("text_config") or model
    heads, tp = text.get("num_attention_heads"), config.parallelism.tp
    if isinstance(heads, int) and heads % tp:
        sizes = [size for size in range(1, heads + 1) if heads % size == 0]
        problems.append(
            f"parallelism.tp={tp}: must divide the model's {heads} attention heads "
            f"({', '.join(map(str, sizes))})"
        )
    longest, length = text.get("max_position_embeddings"), config.engine.max_model_len
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    stretched = "factor" in rope or _allows_longer(config)
    if isinstance(longest, int) and length is not None and length > longest and not stretched:
        problems.append(
            f"engine.max_model_len={length}: beyond the model's own limit of {longest} tokens"
        )
    return problems


def _allows_longer(config: RunConfig) -> bool:
    name = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    return config.engine.env.get(name, os.environ.get(name)) == "1"


def _data_problems(config: RunConfig) -> list[str]:
    problems = []
    for key, value in (
        ("task.data_dir", config.task.data_dir),
        ("task.include_path", config.task.include_path),
    ):
        if value is not None and not Path(value).expanduser().is_dir():
            problems.append(f"{key}={value}: no such directory")
        elif value is not None and not any(Path(value).expanduser().iterdir()):
            problems.append(f"{key}={value}: the directory is empty")
    return problems


def _tracking_problems(config: RunConfig) -> list[str]:
    """A local store must be usable now; a server that is away costs a warning later, no result."""
    uri = config.tracking.uri
    if not config.tracking.enabled:
        return []
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return _sqlite_problems(uri)
    try:
        _ = parts.port
    except ValueError as error:
        return [f"tracking.uri={uri}: not an address ({error})"]
    kind = parts.scheme.partition("+")[0]  # postgresql+psycopg2: the driver is SQLAlchemy's
    if kind not in ("http", "https", "postgresql", "mysql", "mssql", "databricks"):
        return [
            f"tracking.uri={uri}: must be sqlite:///FILE or http(s)://HOST (MLflow no longer takes "
            "a directory), or choose tracking=off"
        ]
    return []


def _sqlite_problems(uri: str) -> list[str]:
    file = Path(uri.removeprefix("sqlite:///"))
    cure = f"move {file} away, set tracking.uri=sqlite:///OTHER.db, or choose tracking=off"
    if not file.exists():
        if file.parent.is_dir() and os.access(file.parent, os.W_OK):
            return []
        return [f"tracking.uri={uri}: cannot create a file in {file.parent}"]
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return [f"tracking.uri={uri}: may not be written; {cure}"]
    try:
        connection = sqlite3.connect(file, timeout=5)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"tracking.uri={uri}: {error}; {cure}"]
    return []
