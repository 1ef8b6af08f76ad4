"""Tables as npu-smi prints them for each kind of chip, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.platforms import npu_smi
from runner.platforms.base import DeviceProcess
from runner.platforms.npu_smi import MIB, Reading, parse
from tests.imitation import Imitation, imitate, npu_smi_info

# After the layout that npu-smi 25.7 prints for an Ascend 950: an id column of its own, no chip.
ASCEND_950 = """\
+-------------------------------------------------------------------------------------------------+
| npu-smi 25.7.rc1                                 Version: 25.7.rc1                              |
+--------+------------------+---------------+-----------------------------------------------------+
| NPU ID | Name             | Health        | Power(W)    Temp(C)           Hugepages-Usage(page) |
|        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)         |
+========+==================+===============+=====================================================+
| 0      | Ascend950PR      | OK            | 201.4       51                0     / 0             |
|        |                  | 0000:35:00.0  | 0           0    / 0          5511  / 131072        |
+========+==================+===============+=====================================================+
| 1      | Ascend950PR      | Warning       | 203.9       52                0     / 0             |
|        |                  | NA            | 0           0    / 0          90112 / 131072        |
+========+==================+===============+=====================================================+
| NPU     Chip                  | Process id    | Process name             | Process memory(MB)   |
+===============================+===============+==========================+======================+
| 1                             | 777           | python3.11               | 84211                |
+===============================+===============+==========================+======================+
"""
TABLES = [
    npu_smi_info("A2", 3, busy=[1]),
    npu_smi_info("A3", 4, busy=[2], wide=True),
    npu_smi_info("310P", 2, unhealthy=[0]),
    ASCEND_950,
]


def test_an_a2_shows_a_chip_an_npu_and_its_hbm_last() -> None:
    reading = parse(npu_smi_info("A2", 8))
    assert reading.version == "25.5.1"
    assert [(chip.npu, chip.chip) for chip in reading.chips] == [(n, 0) for n in range(8)]
    first = reading.chips[0]
    assert (first.name, first.health, first.bus_id) == ("910B3", "OK", "0000:41:00.0")
    assert first.memory_used_bytes == 3371 * MIB
    assert first.memory_total_bytes == 65536 * MIB
    assert first.phy is None


@pytest.mark.parametrize("wide", [False, True])
def test_an_a3_is_counted_die_by_die(wide: bool) -> None:
    """The second die of each shows no power of its own."""
    reading = parse(npu_smi_info("A3", 16, version="26.0.rc2", wide=wide))
    assert reading.version == "26.0.rc2"
    assert [(chip.npu, chip.chip, chip.phy) for chip in reading.chips] == [
        (number // 2, number % 2, number) for number in range(16)
    ]
    assert {chip.memory_total_bytes for chip in reading.chips} == {65536 * MIB}


def test_a_310p_has_no_hbm_and_any_number() -> None:
    chips = parse(npu_smi_info("310P", 2)).chips
    assert [(chip.npu, chip.chip, chip.name) for chip in chips] == [
        (5, 0, "310P3"),
        (8, 0, "310P3"),
    ]
    assert [chip.memory_used_bytes for chip in chips] == [1817 * MIB, 1818 * MIB]
    assert chips[0].memory_total_bytes == 44278 * MIB
    assert chips[0].phy is None


def test_a_950_splits_id_and_name() -> None:
    first, second = parse(ASCEND_950).chips
    assert (first.npu, first.chip, first.name) == (0, 0, "Ascend950PR")
    assert (first.bus_id, second.bus_id) == ("0000:35:00.0", None)
    assert second.health == "Warning"
    assert second.memory_used_bytes == 90112 * MIB
    assert second.processes == (DeviceProcess(777, "python3.11", 84211 * MIB),)


def test_a_used_figure_may_touch_its_slash() -> None:
    text = npu_smi_info("A2", 1, busy=[0])
    assert "60948/ 65536" in text
    assert parse(text).chips[0].memory_used_bytes == 60948 * MIB


def test_processes_belong_to_their_die() -> None:
    chips = parse(npu_smi_info("A3", 4, busy=[1, 2])).chips
    assert [len(chip.processes) for chip in chips] == [0, 1, 1, 0]
    assert chips[1].processes[0].name == "VLLMWorker_TP"
    assert chips[1].processes[0].pid == 41201
    assert chips[1].processes[0].memory_bytes == (60948 - 2903) * MIB


@pytest.mark.parametrize(
    ("shown", "health"),
    [("Warning", "Warning"), ("NA", "unknown"), ("-", "unknown"), ("", "unknown")],
)
def test_health_that_is_not_told_is_unknown(shown: str, health: str) -> None:
    text = npu_smi_info("A2", 1).replace("| OK ", f"| {shown} ")
    assert parse(text).chips[0].health == health


def test_a_lost_second_row_costs_its_npu_alone() -> None:
    lines = npu_smi_info("A2", 3).splitlines()
    lines.remove(next(line for line in lines if "0000:44:00.0" in line))
    assert [chip.npu for chip in parse("\n".join(lines)).chips] == [0, 2]


def test_a_lost_first_row_makes_no_device_of_the_second() -> None:
    lines = npu_smi_info("A3", 4).splitlines()
    for die in (1, 2):
        lines.remove(next(line for line in lines if line.startswith(f"| {die // 2}     Asc")))
    assert [(chip.npu, chip.name) for chip in parse("\n".join(lines)).chips] == [
        (0, "Ascend910"),
        (1, "Ascend910"),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "dcmi module initialize failed. ret is -8005", "|", "||||", "| 0 x |\n| 0 |", "| " * 999],
)
def test_what_is_no_table_shows_no_chip(text: str) -> None:
    assert parse(text).chips == ()


@given(table=st.sampled_from(TABLES), cut=st.integers(0, 4000), data=st.data())
@settings(max_examples=300, deadline=None)
def test_damage_never_raises(table: str, cut: int, data: st.DataObject) -> None:
    """Cut, with characters put in, taken out and lines doubled: it reads what it can."""
    damaged = list(table[: max(1, len(table) - cut)])
    for _ in range(data.draw(st.integers(0, 12))):
        place = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        damaged[place : place + data.draw(st.integers(0, 40))] = data.draw(
            st.text(alphabet="|+=/-: 0123456789\n\r\t²٣ANPUChip\x00", max_size=12)
        )
    reading = parse("".join(damaged))
    for chip in reading.chips:
        assert (chip.memory_used_bytes is None) == (chip.memory_total_bytes is None)


@given(st.text(max_size=400))
def test_any_text_is_survived(text: str) -> None:
    assert isinstance(parse(text), Reading)


def test_a_process_is_no_device_where_its_table_has_lost_its_head() -> None:
    lines = npu_smi_info("A2", 2, busy=[1]).splitlines()
    whole = parse("\n".join(lines))
    headless = parse("\n".join(line for line in lines if "Process id" not in line))
    assert [chip.npu for chip in headless.chips] == [chip.npu for chip in whole.chips] == [0, 1]


def test_huge_numbers_are_survived() -> None:
    row = f"| {'9' * 5000} 910B3 | OK | 1 |\n| 0 | 0000:41:00.0 | 0 / 0 {'9' * 5000}/ 65536 |\n"
    assert parse(row).chips == ()
    assert parse(row.replace("9" * 5000 + " 910B3", "0 910B3")).chips[0].npu == 0


# The tool itself


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imitation:
    made = imitate(tmp_path, "A2", devices=2)
    for name, text in made.environment.items():
        monkeypatch.setenv(name, text)
    return made


def test_the_tool_on_the_path_is_asked(machine: Imitation) -> None:
    reading = npu_smi.ask()
    assert len(reading.chips) == 2
    assert reading.problem == ""


@pytest.mark.parametrize("place", npu_smi.PLACES)
def test_the_tool_is_found_off_the_path_too(
    machine: Imitation, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    elsewhere = machine.root / place.lstrip("/")
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    (machine.tools / "npu-smi").rename(elsewhere)
    assert len(npu_smi.ask().chips) == 2


def test_no_tool_names_the_places(machine: Imitation) -> None:
    (machine.tools / "npu-smi").unlink()
    problem = npu_smi.ask().problem
    assert problem.startswith("npu-smi: not found on PATH or at ")
    for place in npu_smi.PLACES:
        assert f"{machine.root}{place}" in problem


def test_a_tool_that_hangs_is_given_up(machine: Imitation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npu_smi, "TIME_LIMIT_S", 0.2)
    machine.answer("exec sleep 30")
    assert npu_smi.ask().problem.endswith("npu-smi info: timed out after 0.2 s")


def test_the_children_of_a_hanging_tool_do_not_keep_us(
    machine: Imitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell script around the tool dies, what it started still holds the pipe."""
    monkeypatch.setattr(npu_smi, "TIME_LIMIT_S", 0.2)
    machine.answer("sleep 3; echo late")
    assert "timed out after 0.2 s" in npu_smi.ask().problem


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'dcmi module initialize failed. ret is -8005'; exit 1", "(status 1): dcmi module"),
        ("echo 'libdrvdsmi_host.so: not found' >&2; exit 127", "(status 127): libdrvdsmi_host.so"),
        ("printf '\\377\\376|||'", "no NPU in its output (status 0)"),
        ("kill -SEGV $$", "no NPU in its output"),
    ],
)
def test_a_tool_that_fails_is_quoted(machine: Imitation, script: str, said: str) -> None:
    machine.answer(script)
    reading = npu_smi.ask()
    assert reading.chips == ()
    assert said in reading.problem


def test_a_tool_that_is_no_program(machine: Imitation) -> None:
    (machine.tools / "npu-smi").write_bytes(b"\x7fELF\x00")
    assert "npu-smi info: " in npu_smi.ask().problem
