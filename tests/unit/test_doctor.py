"""The page says what is really there, and what is wrong with it; seen on imitated machines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from runner.doctor import __main__ as doctor
from runner.doctor import diagnosis, probes
from runner.doctor.diagnosis import Diagnosis
from runner.doctor.probes import Cache, Hub, Store
from runner.platforms import ascend, npu_smi
from runner.platforms.base import DeviceProcess
from runner.platforms.cuda import Cuda
from tests.imitation import Imitation, imitate

SOUND_HUBS = [
    Hub("Hugging Face", "https://huggingface.co", True, "answers"),
    Hub("ModelScope", "https://www.modelscope.cn", True, "answers"),
]
EMPTY_CACHE = Cache("Hugging Face hub", "/cache", False, 0, 100 << 30)


def variables(directory: Path) -> dict[str, str]:
    """No network, caches and a store of the test's own."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(directory / "hf"),
        "MODELSCOPE_CACHE": str(directory / "modelscope"),
        "MODELSCOPE_DOMAIN": "http://127.0.0.1:9",
        "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db",
    }


def ask(machine: Imitation, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner.doctor", *arguments],
        env=machine.process_environment(**variables(directory)),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


# Whole machines, from outside


@pytest.mark.parametrize(
    ("series", "count", "head", "row"),
    [
        (
            "A2",
            8,
            "engine=ascend: 8 × Ascend 910B3 (A2, 64 GiB HBM)",
            "7  NPU 7, chip 0, bus 0000:56:00.0  Ascend 910B3  health OK   3.3 of 64.0 GiB used",
        ),
        (
            "A3",
            16,
            "engine=ascend: 16 × Ascend 910 (A3, 64 GiB HBM)",
            "15  NPU 7, chip 1, phy 15, bus 0000:6E:00.0  Ascend 910  "
            "health OK   2.8 of 64.0 GiB used",
        ),
        (
            "310P",
            2,
            "engine=ascend: 2 × Ascend 310P3 (310P, 43 GiB)",
            "1  NPU 8, chip 0, bus 0000:44:00.0  Ascend 310P3  health OK   1.8 of 43.2 GiB used",
        ),
    ],
)
def test_a_sound_machine(tmp_path: Path, series: Any, count: int, head: str, row: str) -> None:
    done = ask(imitate(tmp_path, series), tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == head
    assert row in lines
    assert sum("health OK" in line for line in lines) == count
    assert "Versions (compatible)" in lines
    for name, version in (
        ("vllm-ascend", f"0.23.0 built for {series}"),
        ("torch-npu", "2.10.0.post4"),
        ("CANN", "9.1.0"),
        ("driver", "25.5.1"),
        ("firmware", "7.8.0.5.216"),
    ):
        assert f"{name} {version}" in {" ".join(line.split()) for line in lines}
    assert lines[-1] == "No problems found."
    assert not (tmp_path / "mlflow.db").exists()


def test_a_container_without_some_of_the_npus_says_so(tmp_path: Path) -> None:
    machine = imitate(tmp_path, "A2")
    for number in (0, 1, 2):
        (machine.root / "dev" / f"davinci{number}").unlink()
    done = ask(machine, tmp_path)
    said = " ".join(done.stdout.split())
    assert "0 NPU 3, chip 0, bus 0000:4A:00.0 Ascend 910B3" in said
    assert "npu-smi shows 8 NPUs, 5 of them have a device file here; pass the others" in said


def test_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    machine = imitate(tmp_path, "A3", busy=[1], unhealthy=[4], driver=None, built_for="A2")
    done = ask(machine, tmp_path, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert (found["engine"], found["series"], found["built_for"]) == ("ascend", "A3", "A2")
    assert len(found["devices"]) == 16
    assert found["devices"][1]["processes"][0]["pid"] == 41201
    assert found["devices"][4]["health"] == "Alarm"
    assert found["devices"][5]["ids"] == {"npu": 2, "chip": 1, "phy": 5, "bus": "0000:50:00.0"}
    assert found["unknown"] == {"driver": [f"{machine.root}/usr/local/Ascend/driver/version.info"]}
    assert found["tracking"]["uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert len(found["wrong"]) == 2
    assert any(note.startswith("driver: unknown") for note in found["notes"])


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from runner.doctor.__main__ import main; main(['--json']);"
        "heavy = ('torch', 'torch_npu', 'vllm', 'mlflow', 'lm_eval', 'datasets', 'ray');"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=imitate(tmp_path, "A2").process_environment(**variables(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr.strip() == "[]"


def test_help_and_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--help"]) == 0
    assert "ASCEND_MACHINE_ROOT" in capsys.readouterr().out
    assert doctor.main(["--jason"]) == 1
    assert "--jason" in capsys.readouterr().err


# What is wrong, and what is merely worth knowing

Make = Callable[..., Diagnosis]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Builds a machine and examines it in this process; hubs, caches and store are sound."""
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    for name in ("ASCEND_RT_VISIBLE_DEVICES", "VLLM_USE_MODELSCOPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ascend, "KEEP_S", 0.0)
    monkeypatch.setattr(probes, "hubs", lambda: SOUND_HUBS)
    monkeypatch.setattr(probes, "caches", lambda: [EMPTY_CACHE])
    monkeypatch.setattr(probes, "tracking", lambda: Store("sqlite:///x.db", (), ()))

    def examined(*arguments: Any, script: str | None = None, **settings: Any) -> Diagnosis:
        machine = imitate(tmp_path, *arguments, **settings)
        for name in ("PATH", "ASCEND_MACHINE_ROOT"):
            monkeypatch.setenv(name, machine.environment[name])
        monkeypatch.syspath_prepend(str(machine.site))
        if script is not None:
            machine.answer(script)
        return diagnosis.examine()

    return examined


def test_nothing_to_say_of_a_sound_machine(examine: Make) -> None:
    found = examine("A2")
    assert (found.wrong, found.notes) == ([], [])
    assert found.visible == tuple(range(8))


def test_versions_that_do_not_belong(examine: Make) -> None:
    found = examine("A2", packages={"torch-npu": "2.9.0.post1", "vllm": "0.23.0rc2"}, cann="8.5.1")
    assert [line.split(" is installed")[0] for line in found.wrong] == [
        "torch-npu 2.9.0.post1",
        "CANN 8.5.1",
    ]
    assert found.notes == ["vllm 0.23.0rc2 is installed, 0.23.0 was tested; a small difference"]
    assert {each.name: each.belongs for each in found.versions if not each.fits} == {
        "vllm": "0.23.0",
        "torch-npu": "2.10.0.post4",
        "CANN": "9.1.0",
    }


def test_a_build_for_another_series(examine: Make) -> None:
    (line,) = examine("A3", built_for="A2").wrong
    assert "vllm-ascend was built for A2, this machine is A3;" in line


def test_an_ill_device_is_wrong_and_a_taken_one_worth_knowing(examine: Make) -> None:
    found = examine("A2", busy=[0], unhealthy=[5])
    (ill,) = found.wrong
    assert ill.startswith("NPU 5: health Alarm;")
    (taken,) = found.notes
    assert "VLLMWorker_TP (pid 41200" in taken


def test_no_device_that_is_free_is_wrong(examine: Make) -> None:
    found = examine("310P", busy=[0, 1])
    assert [line[:16] for line in found.wrong] == ["NPU 0 (npu-smi: ", "NPU 1 (npu-smi: "]
    assert "lower engine.gpu_memory_utilization" in found.wrong[0]


def test_devices_that_torch_npu_will_not_see(
    examine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1,0")
    found = examine("A2")
    (line,) = found.wrong
    assert line.startswith("ASCEND_RT_VISIBLE_DEVICES=1,0: must be strictly ascending")
    assert found.visible == ()


def test_a_hanging_npu_smi_is_wrong(examine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npu_smi, "TIME_LIMIT_S", 0.2)
    found = examine("A3", script="exec sleep 30")
    (line,) = found.wrong
    assert "timed out after 0.2 s, so chip, memory, health and processes are unknown" in line
    assert found.hardware == "16 × Ascend"
    assert found.versions[-2].here == "unknown"


def test_garbage_from_npu_smi_is_wrong(examine: Make) -> None:
    (line,) = examine("A2", script="printf '|\\377 910B3 |\\n\\0'").wrong
    assert "no NPU in its output" in line


def test_no_npu_smi_is_worth_knowing(examine: Make) -> None:
    found = examine("A2", npu_smi=False)
    assert found.wrong == []
    (line,) = found.notes
    assert line.startswith("npu-smi: not found on PATH or at ")
    assert "mount the host's" in line


def test_no_version_files_are_worth_knowing(examine: Make) -> None:
    found = examine("A2", cann=None, driver=None, firmware=None, packages={"vllm": "0.23.0rc1"})
    assert found.wrong == []
    small, *unknown = found.notes
    assert small.startswith("vllm 0.23.0rc1 is installed")
    assert [line.split(":")[0] for line in unknown] == ["cann", "driver", "firmware"]


def test_a_container_without_its_devices(examine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cuda, "present", lambda self: False)
    found = examine("A2", devices=0, npu_smi=False)
    assert found.engine == "cpu"
    (line,) = found.wrong
    assert line.startswith("vllm-ascend is installed, but no NPU: ")


def test_a_machine_with_gpus(
    examine: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus = [ascend.Device(0, "NVIDIA H200", 143771 << 20, 4 << 20)]
    monkeypatch.setattr(Cuda, "present", lambda self: True)
    monkeypatch.setattr(Cuda, "devices", lambda self: gpus)
    monkeypatch.setattr(Cuda, "versions", lambda self: {"driver": "550.54"})
    found = examine("A2", devices=0, packages={"vllm-ascend": "", "vllm": "0.23.0"})
    assert (found.engine, found.hardware, found.wrong) == ("cuda", "1 × NVIDIA H200 (140 GiB)", [])
    doctor.show(doctor.terminal.console(), found)
    text = capsys.readouterr().out
    assert "GPUs\n  0  NVIDIA H200   0.0 of 140.4 GiB used\n" in text
    assert "driver" in text


# Hubs, caches, store


def seen(hub: Hub, *, holds: int = 0, variables: dict[str, str] | None = None) -> Diagnosis:
    found = Diagnosis("cpu", "")
    found.hubs = (hub, Hub("ModelScope", "https://www.modelscope.cn", False, "timed out"))
    found.caches = (Cache("x", "/x", True, holds, None),)
    diagnosis._judge_hubs(found, variables or {})
    return found


AWAY = Hub("Hugging Face", "https://huggingface.co", False, "timed out")
FORBIDDEN = Hub("Hugging Face", "https://huggingface.co", None, "not checked: HF_HUB_OFFLINE=1")


def test_a_hub_that_does_not_answer_is_a_note() -> None:
    assert seen(AWAY).wrong == seen(AWAY, holds=1).wrong == []
    assert "HF_ENDPOINT" in seen(AWAY).notes[0]
    assert "runner.prepare" in seen(AWAY).notes[0]
    assert "HF_HUB_OFFLINE=1" in seen(AWAY, holds=1).notes[0]
    assert (seen(FORBIDDEN).wrong, seen(FORBIDDEN).notes) == ([], [])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("True", "is unreachable"),
        ("1", "has no effect; vLLM expects true"),
        ("false", ""),
        ("", ""),
    ],
)
def test_modelscope_matters_where_it_is_chosen(value: str, said: str) -> None:
    notes = seen(SOUND_HUBS[0], variables={"VLLM_USE_MODELSCOPE": value}).notes
    assert len(notes) == bool(said)
    assert said in "".join(notes)


def test_little_room_is_worth_knowing(examine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "caches", lambda: [Cache("x", "/cache", True, 1, 3 << 30)])
    (line,) = examine("A2").notes
    assert line.startswith("x: 3.0 GiB free for /cache;")


def test_a_store_that_cannot_be_used_is_wrong(
    examine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("sqlite:///x.db", ("tracking.uri=sqlite:///x.db: locked",), ("slow",))
    monkeypatch.setattr(probes, "tracking", lambda: store)
    found = examine("A2")
    assert found.wrong == ["tracking.uri=sqlite:///x.db: locked"]
    assert found.notes == ["slow"]


@pytest.fixture
def server() -> Iterator[Callable[[int], str]]:
    """A hub on this machine that answers with one status."""
    running: list[HTTPServer] = []

    def serve(status: int) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        running.append(HTTPServer(("127.0.0.1", 0), Answer))
        Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}"

    yield serve
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize(
    ("status", "answers"), [(200, True), (401, True), (404, True), (403, False), (502, False)]
)
def test_a_hub_is_asked_where_it_is_said_to_be(
    server: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    answers: bool,
) -> None:
    address = server(status)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://me:s3cret@127.0.0.1:9")
    face, scope = probes.hubs()
    assert (face.address, face.answers) == (address, answers)
    assert (scope.address, scope.answers) == ("http://127.0.0.1:9", False)


def test_a_hub_that_never_answers_costs_no_more_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = Event()
    monkeypatch.setattr(probes, "TIME_LIMIT_S", 0.1)
    monkeypatch.setattr(probes, "_asked", lambda address: (answered.wait(30), "late"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    face, scope = probes.hubs()
    assert (face.answers, face.detail) == (None, "not checked: HF_HUB_OFFLINE=1")
    assert (scope.answers, scope.detail) == (False, "no answer within 0.1 s")
    answered.set()


def test_caches_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("hub/models--a--b", "hub/datasets--c--d", "hub/.locks", "datasets/c___d"):
        (tmp_path / "hf" / place).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "none" / "yet"))
    hub, data, scope = probes.caches()
    assert (hub.exists, hub.holds) == (True, 2)
    assert (data.path, data.holds) == (str(tmp_path / "hf/datasets"), 1)
    assert (scope.exists, scope.holds) == (False, 0)
    assert scope.free_bytes is not None


def test_the_default_store_is_that_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert probes.tracking() == probes.Store(f"sqlite:///{tmp_path}/mlflow.db", (), ())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert probes.tracking() == probes.Store(f"sqlite:///{tmp_path}/mlflow.db", (), ())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/not/there/x.db")
    (problem,) = probes.tracking().problems
    assert "cannot create a file" in problem
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[broken")
    (problem,) = probes.tracking().problems
    assert "not a valid address" in problem


# The page


def test_the_page_of_a_machine_with_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    process = DeviceProcess(7, "vllm [bold]x[/bold]", 1 << 30)
    device = ascend.Device(0, "Ascend 910B3", 64 << 30, 60 << 30, "OK", (process,))
    doctor.show(
        doctor.terminal.console(),
        Diagnosis("ascend", "1 × x", devices=(device,), visible=(0,), wrong=["a: b", "c: d"]),
    )
    text = capsys.readouterr().out
    assert "60.0 of 64.0 GiB used  vllm [bold]x[/bold] (pid 7)" in text
    assert "Problems (2)\n  1.  a: b\n  2.  c: d\n" in text
    assert "No problems found" not in text
