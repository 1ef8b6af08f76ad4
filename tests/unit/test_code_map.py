"""docs/code.md names every module and package at the top of runner/, and no other."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_the_map_is_complete() -> None:
    text = (PROJECT / "docs" / "code.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+(?:\.py|/))`", text)) - {"hydra_plugins/"}
    runner = PROJECT / "runner"
    modules = {file.name for file in runner.glob("*.py")} - {"__init__.py"}
    packages = {
        f"{file.parent.name}/" for file in runner.glob("*/*") if file.suffix in (".py", ".j2")
    }
    assert named == modules | packages
