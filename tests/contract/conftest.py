"""vllm-ascend's own configuration path, for as long as the tests run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.client import Upstream
from tests.contract.wheels import RELEASES, unpacked


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Each release of vllm-ascend that the contract is with."""
    return str(request.param)


@pytest.fixture(scope="session")
def tree(release: str) -> Path:
    return tree_of(release)


def tree_of(release: str) -> Path:
    """The pinned wheels' content. Not to be had is an error: nothing else checks these rules."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("tokenizers, the one wheel with compiled code, is pinned for x86-64")
    return unpacked(RELEASES[release])


@pytest.fixture(scope="session")
def upstream(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Upstream]]:
    """The process that answers for a series, started when it is first asked for."""
    home = tmp_path_factory.mktemp("upstream")
    started: dict[str, Upstream] = {}

    def of(series: str) -> Upstream:
        if series not in started:
            started[series] = Upstream(series, tree, home / series)
        return started[series]

    yield of
    for process in started.values():
        process.close()
