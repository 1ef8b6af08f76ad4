"""A package is known by the code that would be imported, not by its version alone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import packages
from runner.interpreters import OWN
from runner.packages import Code, code_of

NAME, MODULE = "made-up-engine", "made_up_engine"
FILES = {"__init__.py": b"", "sampler.py": b"greedy = True\n", "kernels/_C.so": b"\x7fELF"}
LONG_AGO = time.time_ns() - 10**12


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    packages._code_at.cache_clear()
    packages._recorded_by_any.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site directory with one package, as an installer leaves it: the record is written last."""
    directory = tmp_path / "site"
    monkeypatch.syspath_prepend(str(directory))
    install(directory)
    return directory


def install(site: Path, name: str = NAME, files: dict[str, bytes] = FILES) -> Path:
    """Write the files below the package's directory, and its record; returns the latter's place."""
    package = site / name.replace("-", "_")
    info = site / f"{package.name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    rows = [f"{info.name}/METADATA,,", f"{package.name}/__pycache__/x.pyc,,"]
    for path, content in files.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_bytes(content)
        rows.append(row(f"{package.name}/{path}", content))
        os.utime(package / path, ns=(LONG_AGO, LONG_AGO))
    (info / "RECORD").write_text("\n".join(rows) + "\n")
    return info


def row(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(content)}"


def found(python_path: str = "") -> Code:
    packages._code_at.cache_clear()
    packages._recorded_by_any.cache_clear()
    return code_of([NAME], python_path)[NAME]


def edit(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def test_a_release_is_not_edited(site: Path) -> None:
    assert found().edited == ""


def test_untouched_files_are_not_read(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str, algorithm: str = "") -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(packages, "_hash", read)
    assert found().edited == ""


@pytest.mark.parametrize("content", [b"greedy = Fals\n", b"greedy = False\n"])
def test_an_edit_shows_and_undone_it_is_the_release_again(site: Path, content: bytes) -> None:
    before = found()
    edit(site / MODULE / "sampler.py", content)
    edited = found()
    assert edited.digest != before.digest
    assert edited.edited == f"edited: {MODULE}/sampler.py"
    edit(site / MODULE / "sampler.py", FILES["sampler.py"])
    assert found() == before


def test_an_edit_of_the_same_size_shows_with_its_time_set_back(site: Path) -> None:
    """Nobody can set back the time at which a file's status changed."""
    before = found()
    time.sleep(0.02)
    edit(site / MODULE / "sampler.py", b"greedy = Fals\n")
    os.utime(site / MODULE / "sampler.py", ns=(LONG_AGO, LONG_AGO))
    assert found().digest != before.digest


def test_another_edit_is_another_code(site: Path) -> None:
    edit(site / MODULE / "sampler.py", b"greedy = 1\n")
    one = found()
    edit(site / MODULE / "sampler.py", b"greedy = 2\n")
    assert found().digest != one.digest
    assert found().edited == one.edited


def test_an_environment_that_was_copied_is_the_same(site: Path) -> None:
    before = found()
    for file in site.rglob("*.*"):
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
    assert found() == before


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_file_more_or_less_shows(site: Path, change: str) -> None:
    before = found()
    file = site / MODULE / ("patch.py" if change == "added" else "sampler.py")
    file.write_text("") if change == "added" else file.unlink()
    assert found().digest != before.digest
    assert found().edited == f"edited: {MODULE}/{file.name}"


@pytest.mark.parametrize("name", ["__pycache__/sampler.cpython-311.pyc", "sampler.py~", ".git/x"])
def test_what_nobody_imports_does_not_show(site: Path, name: str) -> None:
    before = found()
    (site / MODULE / name).parent.mkdir(exist_ok=True)
    (site / MODULE / name).write_bytes(b"x")
    assert found() == before


def test_two_distributions_share_a_directory(site: Path) -> None:
    before = found()
    info = install(site, "made-up-kernels", {})
    (site / MODULE / "more.py").write_text("")
    (info / "RECORD").write_text(row(f"{MODULE}/more.py", b"") + "\n")
    assert found() == before


def test_a_large_library_is_known_by_its_time(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "LARGE_BYTES", 2)
    before = found()
    library = site / MODULE / "kernels" / "_C.so"
    os.chmod(library, 0o700)  # as a copy or another owner does: another ctime
    assert found() == before
    edit(library, b"\x7fELG")
    assert found().edited == f"edited: {MODULE}/kernels/_C.so"


def editable(site: Path, checkout: Path) -> None:
    info = site / f"{MODULE}-1.0.dist-info"
    for file in (site / MODULE).rglob("*"):
        if file.is_file():
            file.unlink()
    (info / "RECORD").write_text(f"{info.name}/METADATA,,\n")
    (info / "direct_url.json").write_text(
        json.dumps({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    )


def test_an_editable_checkout_is_known_by_its_sources(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = found()
    checkout = tmp_path / "checkout"
    install(checkout)
    editable(site, checkout)
    monkeypatch.setattr(sys, "path", [str(checkout), *sys.path])
    (checkout / f"{MODULE}-1.0.dist-info" / "RECORD").unlink()
    before = found()
    assert before.edited == f"imported from {checkout / MODULE}"
    assert before.digest == released.digest  # the same sources, as long as they are
    os.utime(checkout / MODULE / "sampler.py")
    assert found() == before
    edit(checkout / MODULE / "sampler.py", b"greedy = Fals\n")
    assert found().digest != before.digest


def test_what_shadows_an_installation_counts(site: Path, tmp_path: Path) -> None:
    released = found()
    other = tmp_path / "other"
    (other / MODULE).mkdir(parents=True)
    (other / MODULE / "__init__.py").write_text("")
    shadowed = found(str(other))
    assert shadowed.edited == f"imported from {other / MODULE}"
    assert shadowed.digest != released.digest


def test_a_directory_that_is_no_package_shadows_nothing(site: Path, tmp_path: Path) -> None:
    (tmp_path / "cwd" / MODULE).mkdir(parents=True)
    assert found(str(tmp_path / "cwd")) == found()


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (
            {
                "url": "https://me:s3cret@example.org/x",
                "vcs_info": {"commit_id": "0123456789abcdef"},
            },
            "built from https://example.org/x at 0123456789ab",
        ),
        ({"url": "file:///src/x", "dir_info": {}}, "built from file:///src/x"),
        ({"url": "file:///x-1.0-py3-none-any.whl", "archive_info": {}}, ""),
    ],
)
def test_where_a_build_came_from_is_said(site: Path, origin: object, said: str) -> None:
    (site / f"{MODULE}-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    assert found().edited == said


def test_two_builds_of_one_version_differ(site: Path, tmp_path: Path) -> None:
    one = found()
    record = site / f"{MODULE}-1.0.dist-info" / "RECORD"
    content = b"greedy = 7777\n"
    edit(site / MODULE / "sampler.py", content)
    lines = [line for line in record.read_text().splitlines() if "sampler" not in line]
    record.write_text("\n".join([*lines, row(f"{MODULE}/sampler.py", content)]) + "\n")
    assert found().edited == ""
    assert found().digest != one.digest


def test_a_module_belongs_to_the_distribution_that_is_installed(site: Path) -> None:
    assert list(code_of([f"{NAME}-cpu", NAME])) == [NAME]


def test_a_checkout_that_nobody_installed_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / MODULE).mkdir()
    (tmp_path / MODULE / "__init__.py").write_text("")
    assert code_of([NAME], str(tmp_path))[NAME].edited == f"imported from {tmp_path / MODULE}"


def test_what_is_not_installed_has_no_code() -> None:
    assert code_of(["no-such-package"]) == {}


def test_the_runners_own_code_is_what_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place in packages.OWN_PLACES:
        file = tmp_path / place if place.endswith(".py") else tmp_path / place / "module.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1\n")
    (tmp_path / "report.py").write_text("1\n")
    monkeypatch.setattr(packages, "PACKAGE", tmp_path)
    digest = packages.own_code
    before = digest()
    (tmp_path / "report.py").write_text("2\n")
    assert digest() == before
    (tmp_path / "lm" / "module.py").write_text("2\n")
    assert digest() != before


def test_code_that_asks_or_scores_counts_wherever_it_lies() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("runner")
    counted = tuple(each.removesuffix(".py").replace("/", ".") for each in packages.OWN_PLACES)

    def counts(module: str) -> bool:
        path = module.removeprefix("runner.")
        return any(path == each or path.startswith(f"{each}.") for each in counted)

    own = {each for each in graph.modules if counts(each)}
    others = set().union(*map(graph.find_modules_directly_imported_by, own)) - own
    # These hold data, checks or places. The canary's questions are those of `runner.probe`, whose
    # findings are not answers of the run.
    without = {
        *("canary", "channel", "config", "digest", "errors", "hubs", "inputs", "installed"),
        *("interpreters", "language", "outcome", "plan", "platforms", "problem", "rundir"),
        *("secrecy", "served", "status"),
    }
    modules = {
        *("evidence.choices", "evidence.samples", "evidence.sketches", "journal.attempts"),
        *("stats", "stats.shares", "supervision.worker_exit"),
    }
    names = {each.removeprefix("runner.") for each in others}
    assert {each for each in names - modules if each.split(".")[0] not in without} == set()
    assert {"runner.worker", "runner.runtimes.vllm.stream"} <= own


def test_names_that_pythonpath_puts_first_count_wherever_they_lie(tmp_path: Path) -> None:
    for place in ("one", "other", "empty"):
        (tmp_path / place).mkdir()
    assert packages.ahead_of_all(f"{tmp_path / 'empty'}::{tmp_path / 'absent'}") is None
    assert packages.ahead_of_all(str(packages.PACKAGE.parent)) is None
    (tmp_path / "one" / "numpy.py").write_text("")
    (tmp_path / "other" / "numpy.py").write_text("")
    found = packages.ahead_of_all(str(tmp_path / "one"))
    assert found is not None
    assert packages.ahead_of_all(f"{tmp_path / 'other'}:{tmp_path / 'empty'}") == found
    (tmp_path / "other" / "torch.py").write_text("")
    assert packages.ahead_of_all(str(tmp_path / "other")) != found


def test_an_edit_after_the_check_is_seen_when_an_engine_starts(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {NAME: found().digest, packages.OURS: packages.own_code().digest}
    assert OWN.changed_since(known) == []
    edit(site / MODULE / "sampler.py", b"greedy = Fals\n")
    monkeypatch.setattr(packages, "FRESH_S", 1e-6)
    assert OWN.changed_since(known) == [NAME]
    assert OWN.changed_since({packages.OURS: "other"}) == [packages.OURS]
