"""Memory that an ended engine still holds, on an imitated machine whose npu-smi sees it fall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner.plan import Plan
from runner.platforms import PLATFORMS
from runner.platforms.ascend import Ascend
from runner.supervision import vacancy
from tests.imitation import Imitation, imitate, npu_smi_info


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imitation:
    made = imitate(tmp_path, "A2")
    for name, text in made.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(vacancy, "EVERY_S", 0.01)
    monkeypatch.setattr("runner.platforms.ascend.KEEP_S", 0.0)
    monkeypatch.setitem(PLATFORMS, "ascend", Ascend())
    return made


def free_after(machine: Imitation, tmp_path: Path, asked: int, busy: list[int]) -> None:
    """Let npu-smi show the devices as taken until it has been asked so often."""
    (tmp_path / "taken").write_text(npu_smi_info("A2", 8, busy=busy), encoding="utf-8")
    (tmp_path / "free").write_text(npu_smi_info("A2", 8), encoding="utf-8")
    machine.answer(
        f"cd '{tmp_path}'; echo >> asked\n"
        f'if [ "$(wc -l < asked)" -gt {asked} ]; then cat free; else cat taken; fi'
    )


def waited(plan: Plan) -> list[str]:
    said: list[str] = []
    vacancy.wait_for_memory(plan, said.append)
    return said


def test_the_next_engine_waits_until_the_memory_is_back(
    machine: Imitation, plan: Plan, tmp_path: Path
) -> None:
    free_after(machine, tmp_path, 3, busy=[1])
    first, last = waited(plan)
    assert "waiting for memory, up to 90 s: device 1: 4.5 of 64.0 GiB free" in first
    assert "VLLMWorker_TP (pid 41201" in first
    assert last.startswith("memory is free after")
    assert len((tmp_path / "asked").read_text().splitlines()) == 4


def test_memory_that_is_free_is_not_waited_for(machine: Imitation, plan: Plan) -> None:
    assert waited(plan) == []


def test_devices_of_others_are_not_waited_for(
    machine: Imitation, plan: Plan, tmp_path: Path
) -> None:
    free_after(machine, tmp_path, 1000, busy=[0, 1, 7])
    elsewhere = replace(plan, environment={"ASCEND_RT_VISIBLE_DEVICES": "3,4"})
    assert waited(elsewhere) == []


def test_a_wait_has_an_end(
    machine: Imitation, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacancy, "LONGEST_S", 0.1)
    free_after(machine, tmp_path, 1000, busy=[0])
    assert waited(plan)[-1] == "no memory was freed in 0 s; continuing"


def test_a_cpu_has_no_memory_to_wait_for(plan: Plan) -> None:
    assert waited(replace(plan, platform="cpu")) == []
