"""The files of a model directory that a fault can change, and damaged copies of the directory."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_TENSORS, _TEMPLATE = "model.safetensors", "chat_template.jinja"
_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"


@dataclass
class Checkpoint:
    """What is read from a model directory; a fault edits it in place.

    tensors: model.safetensors, by name
    config: config.json
    preprocessor: preprocessor_config.json; empty if there is none
    template: chat_template.jinja
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    template: str

    @classmethod
    def read(cls, directory: Path) -> "Checkpoint":
        """Read a model directory. Raises OSError if a file is missing."""
        preprocessor = directory / _PREPROCESSOR
        return cls(
            load_file(directory / _TENSORS),
            json.loads((directory / _CONFIG).read_text()),
            json.loads(preprocessor.read_text()) if preprocessor.exists() else {},
            (directory / _TEMPLATE).read_text(),
        )

    def write(self, source: Path, out: Path) -> None:
        """Write a copy of ``source`` to ``out`` with the contents of this checkpoint.

        Files whose content is unchanged are copied byte for byte, so that a comparison of the two
        directories shows nothing but the fault. Raises FileExistsError if ``out`` exists.
        """
        before = Checkpoint.read(source)
        shutil.copytree(source, out)
        if not _same(self.tensors, before.tensors):
            save_file(self.tensors, out / _TENSORS, metadata={"format": "pt"})
            (out / _TENSORS).chmod(0o644)
        for name, now, then in (
            (_CONFIG, self.config, before.config),
            (_PREPROCESSOR, self.preprocessor, before.preprocessor),
        ):
            if now != then:
                (out / name).write_text(json.dumps(now, indent=2) + "\n")
        if self.template != before.template:
            (out / _TEMPLATE).write_text(self.template)


def _same(now: dict[str, Tensor], then: dict[str, Tensor]) -> bool:
    return now.keys() == then.keys() and all(
        now[name].dtype == then[name].dtype and torch.equal(now[name], then[name]) for name in now
    )
