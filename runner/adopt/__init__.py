"""Convert vllm-ascend's accuracy tests to model files: one module per layout of its YAML files."""

from __future__ import annotations

from pathlib import Path

from runner.adopt import lm_eval, nightly
from runner.adopt.adopted import Adopted, LeftToAnother
from runner.adopt.reading import read
from runner.errors import UserError

__all__ = ["Adopted", "LeftToAnother", "adopt", "cases"]


def adopt(file: Path, case: str | None = None) -> Adopted:
    """Convert the file, or the named case of a nightly file.

    Raises:
        LeftToAnother: for a file or case that measures no accuracy, or accuracy of speech.
        UserError: with a line for each thing in the file that it cannot mean.
    """
    content = read(file)
    if nightly.is_nightly(content):
        return nightly.adopt(file, content, case)
    if case is not None:
        raise UserError(f"--case={case}: {file.name} is not a nightly file, so it has no cases")
    return lm_eval.adopt(file, content)


def cases(file: Path) -> tuple[str | None, ...]:
    """Return the names of the accuracy cases in a file; (None,) if there is no choice.

    A file that cannot be read also gives (None,): `adopt` then says why.
    """
    try:
        content = read(file)
    except UserError:
        return (None,)
    names = nightly.names(content) if nightly.is_nightly(content) else ()
    return names if len(names) > 1 else (None,)
