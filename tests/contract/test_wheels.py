"""What happens where the wheels cannot be had, or are not what they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract import wheels

GGUF = next(wheel for wheel in wheels.SHARED if wheel.name == "gguf")  # the smallest


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that nobody answers for."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


def test_no_registry_is_an_error_that_says_so(nowhere: None, tmp_path: Path) -> None:
    with pytest.raises(wheels.ContractError, match=r"gguf==.* could not be fetched"):
        wheels.unpacked((GGUF,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(wheels.ContractError, match="sha256"):
        wheels.unpacked((replace(GGUF, sha256="0" * 64),), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unpacked_tree_is_not_fetched_again(nowhere: None, release: str, tree: Path) -> None:
    assert wheels.unpacked(wheels.RELEASES[release]) == tree
    assert (tree / "vllm_ascend" / "platform.py").is_file()
    assert not list((tree / "vllm_ascend").rglob("*.so"))
