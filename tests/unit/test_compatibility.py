"""Which versions belong together, and how a difference is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from runner.platforms.compatibility import PACKAGES, notes, problems, table
from tests import imitation

SET = imitation.PACKAGES


def test_the_table_is_sound() -> None:
    assert list(table()) == ["0.26.0rc1", "0.23.0.post1", "0.23.0", "0.18.0", "0.13.0"]
    for row in table().values():
        assert set(row) <= {*PACKAGES, "cann", "python"}
        assert {"vllm", "torch", "torch-npu", "cann"} <= set(row)
        for name, version in row.items():
            assert SpecifierSet(version) if name == "python" else Version(version)


@pytest.mark.parametrize("release", list(table()))
def test_a_set_of_the_table_is_without_complaint(release: str) -> None:
    row = table()[release]
    packages = {name: row[name] for name in PACKAGES if name in row}
    assert problems(packages, row["cann"], "3.11.9") == []
    assert notes(packages, row["cann"]) == []


def test_a_release_without_a_row_is_held_against_its_nearest() -> None:
    row = {name: version for name, version in table()["0.26.0rc1"].items() if name in PACKAGES}
    assert problems({**row, "vllm-ascend": "0.26.0"}, "9.1.0") == []
    (line,) = notes({**row, "vllm-ascend": "0.26.0"}, "9.1.0")
    assert line.startswith("vllm-ascend 0.26.0 is installed, 0.26.0rc1 was tested")
    ((what, _),) = problems({**row, "transformers": "5.5.4"}, "9.1.0")
    assert what == "transformers 5.5.4 is installed, but vllm-ascend 0.26.0rc1 expects 5.14.1"


def test_nothing_to_say_without_vllm_ascend() -> None:
    assert problems({"vllm": "0.32.0"}, "unknown") == []
    assert notes({"vllm": "0.32.0"}, "unknown") == []


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("vllm", "0.22.1", "0.23.0"),
        ("torch", "2.9.0", "2.10.0"),
        ("torch-npu", "2.9.0.post1", "2.10.0.post4"),
        ("triton-ascend", "3.2.0", "3.2.2"),
        ("transformers", "4.57.1", "5.5.4"),
    ],
)
def test_a_package_of_another_release(name: str, found: str, wanted: str) -> None:
    (told,) = problems({**SET, name: found}, "9.1.0")
    assert told == (
        f"{name} {found} is installed, but vllm-ascend 0.23.0 expects {wanted}",
        f"pip install '{name}=={wanted}', or use the image quay.io/ascend/vllm-ascend:v0.23.0",
    )
    assert notes({**SET, name: found}, "9.1.0") == []


@pytest.mark.parametrize("cann", ["8.5.1", "8.3.RC2", "9.2.0", "9.1.1"])
def test_another_cann(cann: str) -> None:
    ((what, cure),) = problems(SET, cann)
    assert what == f"CANN {cann} is installed, but vllm-ascend 0.23.0 expects 9.1.0"
    assert cure.startswith("install CANN 9.1.0, or ")


@pytest.mark.parametrize(
    ("cann", "said"),
    [
        ("unknown", "CANN's version is unknown; vllm-ascend 0.23.0 expects 9.1.0"),
        ("9.1.RC1", "CANN 9.1.RC1 is installed, 9.1.0 was tested; a small difference"),
        ("9.1.0.alpha002", "CANN 9.1.0.alpha002 is installed, 9.1.0 was tested"),
        ("trunk-0815", "CANN trunk-0815 cannot be compared with the expected 9.1.0"),
    ],
)
def test_a_cann_that_is_nearly_right_or_not_to_be_read(cann: str, said: str) -> None:
    assert problems(SET, cann) == []
    (line,) = notes(SET, cann)
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("torch-npu", "2.10.0.post7"),
        ("torch-npu", "2.10.0rc1"),
        ("vllm-ascend", "0.23.0rc1"),
        ("vllm", "0.23.0.dev3"),
    ],
)
def test_a_small_difference_is_noted(name: str, found: str) -> None:
    packages = {**SET, name: found}
    assert problems(packages, "9.1.0") == []
    (line,) = notes(packages, "9.1.0")
    assert line.startswith(f"{name} {found} is installed, {SET[name]} was tested")


@pytest.mark.parametrize(("name", "found"), [("torch", "2.10.0+cpu"), ("vllm", "0.23.0+empty")])
def test_a_local_build_of_the_same_version_is_the_same(name: str, found: str) -> None:
    packages = {**SET, name: found}
    assert (problems(packages, "9.1.0"), notes(packages, "9.1.0")) == ([], [])


@pytest.mark.parametrize("found", ["0.20.2", "0.24.0", "0.23.1.dev7+g0123abc", "main"])
def test_a_vllm_ascend_that_nobody_compared_lists_those_that_are_known(found: str) -> None:
    ((what, cure),) = problems({**SET, "vllm-ascend": found}, "9.1.0")
    assert found in what
    assert f"({', '.join(table())})" in what
    assert cure == "install one of these"
    assert notes({**SET, "vllm-ascend": found}, "9.1.0") == []


@pytest.mark.parametrize(
    ("python", "fits"), [("3.9.9", False), ("3.12.4", True), ("3.13.0", False)]
)
def test_the_python_that_runs_it(python: str, fits: bool) -> None:
    lines = problems(SET, "9.1.0", python)
    assert (lines == []) is fits
    assert fits or lines[0][0].startswith(
        f"this is Python {python}, but vllm-ascend 0.23.0 needs >=3.10"
    )


def test_every_difference_has_its_line() -> None:
    packages = {**SET, "torch": "2.9.0", "torch-npu": "2.9.0"}
    assert [what.split()[0] for what, _ in problems(packages, "8.5.1")] == [
        "torch",
        "torch-npu",
        "CANN",
    ]


def test_the_ascend_extra_names_the_torch_npu_of_its_release() -> None:
    tomllib = pytest.importorskip("tomllib")
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extra = tomllib.loads(text)["project"]["optional-dependencies"]["ascend"]
    pinned = dict(each.split("==") for each in extra if "==" in each)
    assert pinned["torch-npu"] == table()[pinned["vllm-ascend"]]["torch-npu"]
