"""Find a model's files, check that they are complete, and digest them, without loading them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runner import adapters
from runner.config.schema import RunConfig
from runner.digest import digest_files
from runner.errors import UserError
from runner.hub_ids import is_path
from runner.hubs import huggingface, leads_outside, modelscope, reason, weight_bytes
from runner.hubs.cache import cached_on_hf, cached_on_modelscope

# MODELSLIM_CONFIG_FILENAME of vllm-ascend 0.23.0.
MODELSLIM_FILE = "quant_model_description.json"
# Keys that only models with images have: vision_config, visual, mm_vision_tower, image_mean, …
SHOWN = re.compile(r"vision|visual|^image|^img_")


@dataclass(frozen=True)
class Weights:
    """The directory of the files (None: only on the hub) and the model's config.json.

    `revision` says who they are on their hub, `files` which they are here. `stored_bytes` are the
    weights' own, as they lie on disk; None where the hub does not say.
    """

    directory: Path | None
    config: dict[str, Any]
    revision: str = ""
    stored_bytes: int | None = None
    files: tuple[Path, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Who they are. Reads the files, which for hundreds of shards takes seconds: ask for it
        once nothing stands in the way of the run."""
        return digest_files(self.directory, self.files) if self.directory else self.revision


def find_weights(config: RunConfig, loaded: bool = True) -> Weights:
    """Return the weights of a configuration whose paths are resolved (`runner.inputs.sources`).

    A local directory, else the hub's cache, else the hub itself. Without `loaded`, a directory may
    hold only the tokenizer and the configuration.

    Raises:
        UserError: if nothing is there, or a file is missing or broken.
    """
    pretrained, revision = config.model.pretrained, config.model.revision
    path = Path(pretrained).expanduser()
    if path.is_dir():
        return _local(path, loaded)
    if path.exists():
        raise UserError(
            f"model.pretrained={pretrained}: this is a file; give the model's directory"
        )
    if is_path(pretrained):
        raise UserError(
            f"model.pretrained={pretrained}: no such directory (a hub id has the form owner/name)"
        )
    if config.source.weights == "modelscope":
        return _on_modelscope(pretrained, revision)
    cached = cached_on_hf(pretrained, revision)
    if cached is None:
        return _on_the_hub(pretrained, revision)
    try:
        return _local(cached, loaded)
    except UserError:
        # A library has cached this model's tokenizer alone, or a fetch was cut: the engine would
        # fetch the rest.
        if huggingface.offline():
            raise
        return _on_the_hub(pretrained, revision)


def untrusted(pretrained: str) -> str:
    """Return the message for weights that need remote code which is not trusted."""
    return (
        f"model.trust_remote_code=false: {pretrained} needs code that comes with its weights; "
        "review it, then set model.trust_remote_code=true"
    )


def takes_images(weights: Weights) -> bool:
    """Return whether the model takes images, by its config.json or image processor."""
    config = weights.config
    found = [config, config.get("thinker_config")]
    processor = weights.directory / "preprocessor_config.json" if weights.directory else None
    if processor is not None and processor.is_file():
        found.append(_json_mapping(processor))
    return any(SHOWN.search(key) for each in found if isinstance(each, dict) for key in each)


def _local(directory: Path, loaded: bool) -> Weights:
    config_file = directory / "config.json"
    if adapters.is_adapter(directory):
        raise UserError(adapters.as_model(directory))
    if not config_file.is_file():
        raise UserError(
            f"model.pretrained={directory}: not a model directory; config.json is missing"
        )
    config = _json_mapping(config_file)
    files = _weight_files(directory) if loaded else []
    for file in files:
        if file.suffix == ".safetensors":
            _check_safetensors(file)
    return Weights(
        directory,
        config,
        stored_bytes=sum(file.stat().st_size for file in files),
        files=(*files, *_described(directory)),
    )


def _weight_files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.bin"))
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        shards = _json_mapping(index).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"model.pretrained: {index} has no weight_map: fetch it again")
        wanted = {str(name) for name in shards.values()}
        outside = sorted(filter(leads_outside, wanted))
        if outside:
            raise UserError(
                f"model.pretrained: {index} lists a file outside its directory ({outside[0]!r}): "
                "fetch the model again"
            )
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
        raise UserError(f"model.pretrained: {file} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"model.pretrained: {file} is not a JSON object: fetch it again")
    return content


def _on_the_hub(repository: str, revision: str | None) -> Weights:
    from huggingface_hub import constants

    where = f"model.pretrained={repository}: neither a directory nor in {constants.HF_HUB_CACHE}"
    cure = (
        f"On a machine with network access: `hf download {repository} --local-dir DIR`, copy DIR "
        "to this machine and set model.pretrained=DIR (or both at once, data too: docs/offline.md)"
    )
    if huggingface.offline():
        raise UserError(f"{where}, and HF_HUB_OFFLINE=1 disables access to the hub. {cure}")
    try:
        found, config = huggingface.look(repository, revision)
    except Exception as error:  # whatever the network stack raises, the cure is the same
        said = huggingface.explain(error, repository, "model")
        raise UserError(f"{where}, and {said}. {cure}") from error
    return Weights(None, config, f"hub:{repository}@{found.revision}", weight_bytes(found.files))


def _on_modelscope(repository: str, revision: str | None) -> Weights:
    try:
        found, config = modelscope.look(repository, revision)
    except Exception as error:
        cached = cached_on_modelscope(repository, revision)
        cure = (
            f"set source.weights=local to use {cached} as it is"
            if cached is not None
            else "docs/offline.md explains how to copy weights to this machine"
        )
        raise UserError(
            f"model.pretrained={repository}: the request to ModelScope failed "
            f"({type(error).__name__}: {reason(error)}); {cure}"
        ) from error
    revision = f"modelscope:{repository}@{found.revision}"
    return Weights(None, config, revision, weight_bytes(found.files))
