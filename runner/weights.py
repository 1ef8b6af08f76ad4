"""A model's files, looked at without loading them: found, whole, and who they are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.digest import digest_files
from runner.errors import UserError


@dataclass(frozen=True)
class Weights:
    """Where the files are (None: only on the hub), the model's config.json, and their digest."""

    directory: Path | None
    config: dict[str, Any]
    digest: str


def find_weights(pretrained: str, revision: str | None) -> Weights:
    """A local directory, else the hub's cache, else the hub itself.

    Raises:
        UserError: if nothing is there, or a file is missing or broken.
    """
    path = Path(pretrained).expanduser()
    if path.is_dir():
        return _local(path)
    if path.exists():
        raise UserError(f"model.pretrained={pretrained}: a file; name the model's directory")
    if path.is_absolute() or pretrained.startswith((".", "~")) or pretrained.count("/") != 1:
        raise UserError(
            f"model.pretrained={pretrained}: no such directory (a hub id reads owner/name)"
        )
    cached = _cached(pretrained, revision)
    if cached is not None:
        return _local(cached)
    return _on_the_hub(pretrained, revision)


def _local(directory: Path) -> Weights:
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise UserError(f"model.pretrained={directory}: no config.json in it; not a model's files")
    config = _json_mapping(config_file)
    files = _weight_files(directory)
    for file in files:
        if file.suffix == ".safetensors":
            _check_safetensors(file)
    return Weights(directory, config, digest_files(directory, [*files, *_described(directory)]))


def _weight_files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.bin"))
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        shards = _json_mapping(index).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"model.pretrained: {index} has no weight_map: fetch it again")
        wanted = set(shards.values())
        absent = sorted(name for name in wanted if not (directory / name).is_file())
        if absent:
            raise UserError(
                f"model.pretrained={directory}: {len(absent)} of {len(wanted)} weight files are "
                f"missing ({', '.join(absent[:3])}): fetch them again"
            )
    if not files:
        raise UserError(f"model.pretrained={directory}: no *.safetensors or *.bin in it")
    return files


def _check_safetensors(file: Path) -> None:
    """The header must parse and cover the file to its last byte: a cut download does not."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"model.pretrained: {file} is corrupt ({error}): fetch it again") from error


def _described(directory: Path) -> list[Path]:
    """What shapes the model beside its weights: configuration, tokenizer, template, code."""
    kinds = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
    return [file for file in directory.iterdir() if file.suffix in kinds and file.is_file()]


def _json_mapping(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"model.pretrained: {file} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"model.pretrained: {file} is not a JSON object: fetch it again")
    return content


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def _on_the_hub(repository: str, revision: str | None) -> Weights:
    from huggingface_hub import HfApi, constants

    cure = (
        f"On a machine with a network: `hf download {repository} --local-dir DIR`, carry DIR over "
        "and set model.pretrained=DIR"
    )
    where = f"model.pretrained={repository}: neither a directory nor in {constants.HF_HUB_CACHE}"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise UserError(f"{where}, and HF_HUB_OFFLINE=1 forbids to ask the hub. {cure}")
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=5)
    except Exception as error:  # whatever the network stack raises, the cure is the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(f"{where}, and the hub did not answer ({reason}). {cure}") from error
    return Weights(None, dict(info.config or {}), f"hub:{repository}@{info.sha}")
