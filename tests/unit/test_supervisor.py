"""How a worker may end, shown with small scripts in its place (the real one: tests/e2e)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.channel.lines import ChannelError
from runner.channel.worker import (
    COMMANDS,
    PROTOCOL,
    Event,
    Import,
    LogTo,
    Retry,
    Run,
    StageBegun,
    read_events,
)
from runner.config.schema import LimitsConfig
from runner.interpreters import Interpreter
from runner.outcome import Outcome, State, TaskOutcome
from runner.packages import OURS, own_code
from runner.plan import Plan
from runner.rundir import RunDirectory, read_json, write_json
from runner.supervision.checking import Checker
from runner.supervision.processes import SHARED_MEMORY, group_members
from runner.supervision.supervisor import Display, Supervisor, _same_engine
from runner.supervision.worker_process import temporary_files_in

STAGE = '{"event": "stage", "stage": "loading tasks"}'
STARTED = '{"event": "engine_started", "engine": {}}'
PROGRESS = '{"event": "progress", "task": "gsm8k", "number": 1, "tasks": 1, "done": 3, "total": 8}'


def supervise(plan: Plan, run: RunDirectory, display: Display, **limits: float) -> Outcome:
    with Supervisor() as supervisor:
        return supervisor.evaluate(plan, run, display, LimitsConfig(**limits))  # type: ignore[arg-type]


class Seen:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def show(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.claim()
    return directory


@pytest.fixture
def handlers() -> Iterator[None]:
    """An interrupted run leaves both signals ignored; the next test has them again."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Started as `EXECUTABLE -m runner.worker FD`, the script reports to file descriptor 9."""
    executable = tmp_path / "worker.sh"
    executable.write_text(f'#!/bin/bash\neval "exec 9>&$3"\n{script}\n')
    executable.chmod(0o755)
    monkeypatch.setattr("runner.supervision.worker_process.sys.executable", str(executable))


def test_half_a_line_is_the_end_and_what_came_before_is_kept(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TaskOutcome("gsm8k", (), expected=8, evaluated=8)
    write_json(run.outcome, Outcome(State.ERROR, "unfinished", (before,)))
    play(monkeypatch, tmp_path, f"""echo '{STAGE}' >&9; printf '{{"eve' >&9; exit 7""")
    seen = Seen()
    outcome = supervise(plan, run, seen)
    assert outcome.state is State.ERROR
    assert outcome.reason == "the worker process died (exit status 7)"
    assert outcome.tasks == (before,)
    assert [type(event) for event in seen.events] == [StageBegun]
    assert read_json(run.outcome, Outcome) == outcome


@pytest.mark.parametrize("line", ["Traceback", '{"event": "unheard of"}'])
def test_a_worker_that_sends_no_event_is_our_failure_and_is_ended(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(monkeypatch, tmp_path, f"echo $$ > leader; echo '{line}' >&9; sleep 600")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ChannelError, match="not a known event"):
        supervise(plan, run, Seen())
    wait_until(lambda: not group_members(int((tmp_path / "leader").read_text())))


def test_a_child_that_holds_the_pipe_open_delays_nothing_and_is_killed(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, tmp_path, "echo $$ > leader; sleep 600 & kill -9 $$")
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    outcome = supervise(plan, run, Seen())
    assert outcome.reason == "the worker process died (signal SIGKILL)"
    assert time.monotonic() - began < 30
    wait_until(lambda: not group_members(int((tmp_path / "leader").read_text())))


@pytest.mark.usefixtures("handlers")
def test_a_worker_deaf_to_signals_is_killed(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(
        monkeypatch,
        tmp_path,
        f"""trap '' TERM; echo $$ > leader; echo '{STAGE}' >&9
        while true; do sleep 1; done""",
    )
    monkeypatch.chdir(tmp_path)

    class Interrupting(Seen):
        def show(self, event: Event) -> None:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    outcome = supervise(plan, run, Interrupting())
    assert outcome.state is State.INTERRUPTED
    wait_until(lambda: not group_members(int((tmp_path / "leader").read_text())))


@pytest.mark.usefixtures("handlers")
def test_an_interruption_while_a_worker_starts_leaves_no_worker(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(monkeypatch, tmp_path, "echo $$ > leader; sleep 600")
    monkeypatch.chdir(tmp_path)
    start = subprocess.Popen

    def interrupted(*words: Any, **options: Any) -> Any:
        process = start(*words, **options)
        while not (tmp_path / "leader").exists() or not (tmp_path / "leader").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr("runner.supervision.worker_process.subprocess.Popen", interrupted)
    outcome = supervise(plan, run, Seen())
    assert outcome.state is State.INTERRUPTED
    wait_until(lambda: not group_members(int((tmp_path / "leader").read_text())))


def test_no_engine_starts_on_code_that_has_changed_since_the_check(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, tmp_path, "touch started; exit 7")
    monkeypatch.chdir(tmp_path)
    before = replace(plan, code={OURS: "another digest"})
    outcome = supervise(before, run, Seen())
    assert outcome.state is State.ERROR
    assert outcome.reason.startswith(f"the code of {OURS} has changed since this run was checked")
    assert not (tmp_path / "started").exists()
    supervise(replace(plan, code={OURS: own_code().digest}), run, Seen())
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("script", "limits", "said"),
    [
        ("sleep 600", {"start_s": 0.3}, "limits.start_s=0.3 seconds; last activity"),
        (
            f"""echo '{STARTED}' >&9; echo '{PROGRESS}' >&9; sleep 600""",
            {"start_s": 60, "stall_s": 0.3},
            "evaluating gsm8k, 3 of 8 requests answered",
        ),
        (
            f"""while true; do echo '{PROGRESS}' >&9; sleep 0.02; done""",
            {"start_s": 60, "stall_s": 60, "run_s": 0.3},
            "limits.run_s=0.3",
        ),
    ],
    ids=["start", "stall", "run"],
)
def test_a_broken_limit_is_an_error_and_ends_the_whole_group(
    plan: Plan,
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    limits: dict[str, float],
    said: str,
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ALIVE_CHECK_S", 0.1)
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(monkeypatch, tmp_path, f"trap '' TERM; echo $$ > leader; sleep 600 & {script}")
    monkeypatch.chdir(tmp_path)
    outcome = supervise(plan, run, Seen(), **limits)
    assert outcome.state is State.ERROR
    assert said in outcome.reason
    assert read_json(run.outcome, Outcome) == outcome
    wait_until(lambda: not group_members(int((tmp_path / "leader").read_text())))


DIES_TWICE = """echo >> starts; echo "attempt $(wc -l < starts)"
read -r line
if [ $(wc -l < starts) -le 2 ]; then kill -9 $$; fi
cat > run/outcome.json <<< '{"state": "COMPLETED", "reason": "", "tasks": []}'
echo '{"event": "outcome", "state": "COMPLETED"}' >&9
read -r line"""


@pytest.mark.parametrize(("retries", "state", "starts"), [(0, "ERROR", 1), (1, "ERROR", 2)])
def test_a_worker_that_was_killed_is_tried_again_as_often_as_allowed(
    plan: Plan,
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    retries: int,
    state: str,
    starts: int,
) -> None:
    play(monkeypatch, tmp_path, DIES_TWICE)
    monkeypatch.chdir(tmp_path)
    outcome = supervise(plan, run, Seen(), retries=retries)
    assert outcome.state.value == state
    assert outcome.retries == ("the worker process died (signal SIGKILL)",) * retries
    assert len((tmp_path / "starts").read_text().splitlines()) == starts


def test_a_retry_that_succeeds_is_the_run_and_is_recorded(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, tmp_path, DIES_TWICE)
    monkeypatch.chdir(tmp_path)
    seen = Seen()
    outcome = supervise(plan, run, seen, retries=3)
    assert outcome.state is State.COMPLETED
    assert len(outcome.retries) == 2
    assert read_json(run.outcome, Outcome) == outcome
    again = [event for event in seen.events if isinstance(event, Retry)]
    assert [(event.number, event.of) for event in again] == [(1, 3), (2, 3)]
    assert list(read_events(run.events)) == seen.events
    assert run.engine_log.read_text() == "attempt 1\nattempt 2\nattempt 3\n"


@pytest.mark.parametrize(
    "script",
    [
        "exit 7",
        """read -r line
        cat > run/outcome.json <<< '{"state": "ERROR", "reason": "KeyError: 1", "tasks": []}'
        echo '{"event": "outcome", "state": "ERROR"}' >&9""",
        "sleep 600",
    ],
    ids=["exit", "python", "start"],
)
def test_what_cannot_become_better_is_not_tried_again(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ALIVE_CHECK_S", 0.1)
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(monkeypatch, tmp_path, f"echo >> starts; {script}")
    monkeypatch.chdir(tmp_path)
    outcome = supervise(plan, run, Seen(), retries=3, start_s=0.5)
    assert outcome.state is State.ERROR
    assert outcome.retries == ()
    assert len((tmp_path / "starts").read_text().splitlines()) == 1


def test_a_stalled_engine_is_killed_and_tried_again(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ALIVE_CHECK_S", 0.1)
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(monkeypatch, tmp_path, f"echo '{PROGRESS}' >&9; sleep 600")
    outcome = supervise(plan, run, Seen(), retries=1, stall_s=0.3)
    assert outcome.state is State.ERROR
    assert "limits.stall_s=0.3" in outcome.reason
    assert len(outcome.retries) == 1


def test_an_engine_whose_process_was_killed_is_not_waited_for(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ALIVE_CHECK_S", 0.1)
    monkeypatch.setattr("runner.supervision.limits.BEREAVED_S", 0.3)
    play(
        monkeypatch,
        tmp_path,
        f"""sleep 600 & echo '{STARTED}' >&9; echo '{PROGRESS}' >&9
        sleep 0.3; kill -9 $!; exec sleep 600""",
    )
    outcome = supervise(plan, run, Seen(), stall_s=600)
    assert outcome.state is State.ERROR
    assert outcome.reason.startswith("an engine process died (")


@pytest.mark.parametrize(
    "then",
    [
        "sleep 1",
        f"""echo '{STARTED}' >&9; until [ -e shown ]; do sleep 0.01; done""",
    ],
    ids=["as it starts", "as soon as anybody knows of it"],
)
def test_no_shared_memory_stays_of_an_engine_that_dies_with_all_its_processes(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    segment = SHARED_MEMORY / f"{tmp_path.name}-{os.getpid()}"
    rank = tmp_path / "rank.py"
    rank.write_text(
        "import mmap, pathlib, time\n"
        f"held = open({str(segment)!r}, 'w+b')\n"
        "held.truncate(4096)\n"
        "mapped = mmap.mmap(held.fileno(), 4096)\n"
        "pathlib.Path('mapped').touch()\n"
        "time.sleep(600)\n"
    )
    script = f"""echo $$ > leader; {sys.executable} {rank} &
        until [ -e mapped ]; do sleep 0.01; done; {then}; kill -9 $! && wait $!; kill -9 $$"""
    monkeypatch.setattr("runner.supervision.worker_process.ALIVE_CHECK_S", 0.1)
    play(monkeypatch, tmp_path, script)
    monkeypatch.chdir(tmp_path)

    class Late(Seen):
        """Shows an event for as long as anybody lives."""

        def show(self, event: Event) -> None:
            Path("shown").touch()
            while group_members(int(Path("leader").read_text())):
                time.sleep(0.01)

    try:
        outcome = supervise(plan, run, Late())
        assert outcome.reason == "the worker process died (signal SIGKILL)"
        assert Path("mapped").exists() and not segment.exists()
    finally:
        segment.unlink(missing_ok=True)


def test_a_worker_is_told_when_its_runs_verdict_is_on_disk(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        monkeypatch,
        tmp_path,
        """read -r line
        cat > run/outcome.json <<< '{"state": "COMPLETED", "reason": "", "tasks": []}'
        echo '{"event": "outcome", "state": "COMPLETED"}' >&9
        read -r line; echo "$line" > told; read -r line; echo "$line" >> told""",
    )
    monkeypatch.chdir(tmp_path)
    with Supervisor() as supervisor:
        supervisor.recorded()
        supervisor.evaluate(plan, run, Seen(), LimitsConfig())
        supervisor.recorded()
    assert (tmp_path / "told").read_text() == '{"command": "recorded"}\n{"command": "exit"}\n'


def test_no_secret_is_in_a_retrys_reason(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canarycanarycanary")
    play(
        monkeypatch,
        tmp_path,
        """read -r line
        cat > run/outcome.json <<< \
        '{"state": "ERROR", "reason": "EngineDeadError: hf_canarycanarycanary", "tasks": []}'
        echo '{"event": "outcome", "state": "ERROR"}' >&9""",
    )
    monkeypatch.chdir(tmp_path)
    seen = Seen()
    outcome = supervise(plan, run, seen, retries=1)
    blotted = "EngineDeadError: *********************"
    assert (outcome.reason, outcome.retries) == (blotted, (blotted,))
    assert "canarycanary" not in run.events.read_text() + run.outcome.read_text()


def test_what_a_worker_writes_for_a_while_goes_when_it_goes(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "mktemp > left; env > variables; exit 3"
    play(monkeypatch, tmp_path, script)
    monkeypatch.chdir(tmp_path)
    supervise(plan, run, Seen())
    assert not Path((tmp_path / "left").read_text().strip()).parent.exists()
    variables = (tmp_path / "variables").read_text()
    assert f"RAY_TMPDIR={tempfile.gettempdir()}\n" in variables
    assert "VLLM_RPC_BASE_PATH" not in variables


def test_sockets_stay_out_of_a_directory_with_a_long_name(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RAY_TMPDIR": "/ray"}
    variables = temporary_files_in("/" + "x" * 90, given)
    assert variables["VLLM_RPC_BASE_PATH"] == tempfile.gettempdir()
    assert variables["RAY_TMPDIR"] == "/ray"


CHECKS = """read -r line; echo "$line" >> asked; echo "$HF_HUB_OFFLINE" > offline
dir=$(echo "$line" | sed 's/.*"directory": "\\([^"]*\\)".*/\\1/')
echo '{"event": "unchecked", "text": "data"}' >&9
echo '{"event": "built", "requests": {"gsm8k": 8}}' >&9
echo '{"state": "'$STATE'", "reason": "why", "tasks": []}' > "$dir/outcome.json"
echo '{"event": "outcome", "state": "'$STATE'"}' >&9; read -r line"""


@pytest.mark.parametrize(
    ("state", "status"), [("COMPLETED", 0), ("REFUSED", 2), ("ERROR", 2)], ids=str
)
def test_a_check_ends_before_the_engine_and_fetches_nothing(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, status: int
) -> None:
    play(monkeypatch, tmp_path, CHECKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE", state)
    with Checker() as checker:
        found = checker.check(plan, Seen(), LimitsConfig(), weights=False)
    assert (found.outcome.state.value, found.status) == (state, status)
    assert (found.unchecked, found.requests) == (["data"], {"gsm8k": 8})
    command = json.loads((tmp_path / "asked").read_text())
    assert (command["command"], command["weights"]) == ("check", False)
    assert (tmp_path / "offline").read_text() == "1\n"


def test_a_worker_that_was_started_early_imports_and_then_gets_the_run(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        monkeypatch,
        tmp_path,
        """echo $$ >> started
        for each in 1 2 3; do read -r line; echo "$line" >> told; done
        cat > run/outcome.json <<< '{"state": "COMPLETED", "reason": "", "tasks": []}'
        echo '{"event": "outcome", "state": "COMPLETED"}' >&9; read -r line""",
    )
    monkeypatch.chdir(tmp_path)
    with Supervisor() as supervisor:
        supervisor.start_early(replace(plan, engine_fingerprint="of digests that are not made yet"))
        outcome = supervisor.evaluate(plan, run, Seen(), LimitsConfig())
    assert outcome.state is State.COMPLETED
    assert len((tmp_path / "started").read_text().splitlines()) == supervisor.starts == 1
    first, second, third = map(COMMANDS.decode, (tmp_path / "told").read_bytes().splitlines())
    assert first == Import("vllm")
    assert isinstance(second, LogTo) and second.log == run.engine_log
    assert third == Run(run.path)


def test_a_worker_that_was_started_with_other_variables_is_not_used(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        monkeypatch,
        tmp_path,
        """echo "$FLAVOUR" >> started; read -r line
        cat > run/outcome.json <<< '{"state": "COMPLETED", "reason": "", "tasks": []}'
        echo '{"event": "outcome", "state": "COMPLETED"}' >&9; read -r line""",
    )
    monkeypatch.chdir(tmp_path)
    with Supervisor() as supervisor:
        supervisor.start_early(replace(plan, environment={"FLAVOUR": "early"}))
        wait_until(lambda: (tmp_path / "started").exists())
        supervisor.evaluate(
            replace(plan, environment={"FLAVOUR": "asked"}), run, Seen(), LimitsConfig()
        )
    assert (tmp_path / "started").read_text() == "early\nasked\n"


def test_what_an_early_worker_said_before_it_died_is_in_the_runs_log(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, tmp_path, "echo no such library; read -r line; read -r line; exit 7")
    with Supervisor() as supervisor:
        supervisor.start_early(plan)
        outcome = supervisor.evaluate(plan, run, Seen(), LimitsConfig())
    assert outcome.reason == "the worker process died (exit status 7)"
    assert run.engine_log.read_text() == "no such library\n"


def test_of_an_early_worker_without_a_run_nothing_stays(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    play(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/started; trap '' TERM; sleep 600")
    began = time.monotonic()
    with Supervisor() as supervisor:
        supervisor.start_early(plan)
        wait_until(lambda: (tmp_path / "started").exists())
    assert time.monotonic() - began < 10
    wait_until(lambda: not group_members(int((tmp_path / "started").read_text())))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["started", "worker.sh"]


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_worker_of_another_version_is_told_from_ours(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    started = '{"event": "worker_started", "pid": 1}'
    play(
        monkeypatch, tmp_path, f"""echo '{started}' >&9; echo '{{"unheard": "of"}}' >&9; sleep 60"""
    )
    outcome = supervise(plan, run, Seen())
    assert outcome.state is State.ERROR
    assert "the worker uses version 0 of the protocol" in outcome.reason
    assert f"this runner uses version {PROTOCOL}" in outcome.reason


def test_each_interpreter_has_its_own_worker(
    plan: Plan, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interpreter, "changed_since", lambda self, known: [])
    monkeypatch.setattr("runner.supervision.worker_process.ORDERLY_EXIT_S", 0.5)
    play(monkeypatch, tmp_path, "exit 7")
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text(f"#!/bin/bash\necho other > {tmp_path}/ran; exit 8\n")
    other.chmod(0o755)
    with Supervisor() as supervisor:
        supervisor.start_early(plan)
        theirs = replace(plan, python=str(other))
        outcome = supervisor.evaluate(theirs, run, Seen(), LimitsConfig())
    assert outcome.reason == "the worker process died (exit status 8)"
    assert (tmp_path / "ran").read_text() == "other\n"
    assert _same_engine(plan, replace(plan)) and not _same_engine(plan, theirs)
