"""transformers without what generates text, whose imports take longer than many an evaluation.

A client of a running server loads a model's configuration, tokenizer and processor. transformers
imports its generation with them, and with it torch's compiler, scikit-learn and SciPy.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

PACKAGE = "transformers.generation"
UNUSED = (f"{PACKAGE}.logits_process", f"{PACKAGE}.utils")
# They need the unused modules' names only for models.
WITHOUT = ("transformers.configuration_utils", "transformers.models.auto.auto_factory")


class _Unused(ModuleType):
    """Has an empty class for each name that is imported from it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": self.__name__})


def import_without_generation() -> None:
    """Import what loads configurations, tokenizers and processors.

    Whoever imports generation later gets the real one.
    """
    package = importlib.import_module(PACKAGE)
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update({name: _Unused(name) for name in absent})
    before = set(vars(package))
    try:
        for name in WITHOUT:
            importlib.import_module(name)
    finally:
        for name in absent:
            del sys.modules[name]
        for name in set(vars(package)) - before:  # transformers keeps what it has once given
            if getattr(vars(package)[name], "__module__", "") in absent or name in _ends(absent):
                delattr(package, name)


def _ends(names: list[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}
