"""Messages between the runner and its child processes: every one crosses a pipe as it was."""

from __future__ import annotations

import io
import json
import math
import os
import threading
import typing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from runner.channel.lines import ChannelError, Codec, Inbox, Message, Outbox
from runner.channel.sender import (
    ANSWERS,
    REQUESTS,
    Answer,
    Done,
    Download,
    Failed,
    FindAlias,
    FindNoise,
    FindPeers,
    GiveAlias,
    ListRuns,
    OpenStore,
    Refused,
    SendRun,
    SendSummary,
    ShareView,
)
from runner.channel.worker import (
    COMMANDS,
    EVENTS,
    MISSING,
    Check,
    Command,
    Decision,
    EngineStarted,
    Exit,
    Heartbeat,
    Import,
    LogTo,
    Looked,
    Progress,
    Recorded,
    RequestsBuilt,
    RequestsFinished,
    Retry,
    Run,
    RunEnded,
    Stage,
    StageBegun,
    TaskFinished,
    Unchecked,
    Waiting,
    Warned,
    WorkerStarted,
    read_events,
)
from runner.outcome import State

SENT: dict[Codec[Any], list[Any]] = {
    EVENTS: [
        WorkerStarted(4711),
        *map(StageBegun, Stage),
        EngineStarted({"dtype": "bfloat16", "architectures": ["A"], "num_gpu_blocks": None}),
        Progress("gsm8k", 1, 3, 0, 8, "generate_until"),
        Progress("任务 \udc80\n\u2028", 2, 3, 7, 8),
        Heartbeat(3),
        Heartbeat(4, None),
        Heartbeat(5, 12.25),
        RequestsFinished("gsm8k", 5),
        Looked("gsm8k", 2, 12, 220, 1319),
        TaskFinished("gsm8k", 3.5),
        Warned("text"),
        Unchecked("text"),
        RequestsBuilt({"gsm8k": 8}),
        *map(RunEnded, State),
        Waiting("waiting for memory"),
        Retry(1, 2, "the worker died"),
    ],
    COMMANDS: [
        Import("vllm"),
        LogTo(Path("/run/engine.log"), Path("/tmp/early.log")),
        Run(Path(os.fsdecode(b"/run \xff"))),
        Check(Path("/run"), weights=False),
        Decision(stop=True),
        Recorded(),
        Exit(),
    ],
    REQUESTS: [
        OpenStore("sqlite:///m.db", "gsm8k"),
        SendRun(Path("/run")),
        ShareView("uri", "7", "2026", ("tags.verdict", "params.tp")),
        SendSummary("uri", "7", "sweep", "2026", "name", {"a": 0.1}, {"b": "c"}, {"/f": ""}),
        FindAlias("uri", "baseline", "fixed", "gsm8k"),
        GiveAlias("uri", "0af", "baseline", "fixed", ("gsm8k", "mmlu"), "2026-01", ("1bf",)),
        FindNoise("uri", "0af"),
        FindPeers("uri", "0af", {"canary/acc": True}),
        Download("uri", "0af", Path("/to"), ("plan.json",), ("verdict.json", "config.yaml")),
        ListRuns("uri", 1000, "token"),
    ],
    ANSWERS: [Done(), Done("key"), Done(("a", "b")), Refused(("one", "two")), Failed("why")],
}
EVERY = [
    pytest.param(codec, message, id=type(message).__name__)
    for codec, messages in SENT.items()
    for message in messages
]


def test_every_type_of_message_is_tried() -> None:
    for codec, messages in SENT.items():
        assert set(codec.types.values()) == set(map(type, messages))
    assert set(COMMANDS.types.values()) == set(typing.get_args(Command))
    assert set(ANSWERS.types.values()) == set(typing.get_args(Answer))


@pytest.mark.parametrize(("codec", "message"), EVERY)
def test_a_message_is_one_line_and_comes_back_the_same(codec: Codec[Any], message: Message) -> None:
    line = codec.encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert codec.decode(line) == message


def test_numbers_that_json_does_not_know_come_back_too() -> None:
    sent = SendSummary("uri", "7", "sweep", "2026", "n", {"a": math.inf, "b": math.nan}, {}, {})
    came = REQUESTS.decode(REQUESTS.encode(sent))
    assert isinstance(came, SendSummary)
    assert came.metrics["a"] == math.inf and math.isnan(came.metrics["b"])


def test_lines_of_events_are_what_users_read_in_events_jsonl() -> None:
    """Names and fields as in version 0.1: a change breaks the users' readers."""
    lines = [json.loads(EVENTS.encode(replace(each, time=1.5))) for each in SENT[EVENTS]]
    assert all(line.pop("time") == 1.5 for line in lines)
    states = ("COMPLETED", "REFUSED", "ERROR", "INTERRUPTED")
    stages = (
        "importing libraries",
        "loading tasks",
        "checking engine arguments",
        "building requests",
        "starting engine",
    )
    first = {"task": "gsm8k", "number": 1, "tasks": 3, "done": 0, "total": 8}
    second = {"task": "任务 \udc80\n\u2028", "number": 2, "tasks": 3, "done": 7, "total": 8}
    assert lines == [
        {"event": "worker_started", "pid": 4711},
        *({"event": "stage", "stage": stage} for stage in stages),
        {"event": "engine_started", "engine": SENT[EVENTS][len(stages) + 1].engine},
        {"event": "progress", **first, "kind": "generate_until"},
        {"event": "progress", **second},
        {"event": "heartbeat", "steps": 3},
        {"event": "heartbeat", "steps": 4, "seconds_left": None},
        {"event": "heartbeat", "steps": 5, "seconds_left": 12.25},
        {"event": "requests_finished", "task": "gsm8k", "steps": 5},
        {"event": "look", "task": "gsm8k", "number": 2, "of": 12, "asked": 220, "questions": 1319},
        {"event": "task_finished", "task": "gsm8k", "seconds": 3.5},
        {"event": "warning", "text": "text"},
        {"event": "unchecked", "text": "text"},
        {"event": "built", "requests": {"gsm8k": 8}},
        *({"event": "outcome", "state": state} for state in states),
        {"event": "waiting", "said": "waiting for memory"},
        {"event": "retry", "number": 1, "of": 2, "reason": "the worker died"},
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "unheard_of", "time": 1.0}',
        '{"command": "exit"}',
        '{"event": ["heartbeat"], "steps": 1}',
        '{"event": "heartbeat"}',
        '{"event": "heartbeat", "steps": "many"}',
        '{"event": "heartbeat", "steps": 1, "pid": 2}',
        '{"event": "heartbeat", "steps": 1, "seconds_left": "missing"}',
        '{"event": "stage", "stage": "making coffee"}',
        '{"event": "heartbeat", "steps": 1',
        '["heartbeat"]',
        "7",
        "",
        "Traceback (most recent call last):",
    ],
)
def test_any_other_line_is_an_error_that_quotes_it(line: str) -> None:
    with pytest.raises(ChannelError) as error:
        EVENTS.decode(line.encode() + b"\n")
    assert str(error.value) == f"not a known event: {line + chr(10)!r}"


def test_a_long_wrong_line_is_quoted_in_part() -> None:
    with pytest.raises(ChannelError) as error:
        EVENTS.decode(b"\xff" * 1_000_000)
    assert len(str(error.value)) < 300


# Between two processes


@pytest.fixture
def pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")


def test_messages_arrive_at_once_in_order_until_the_end(
    pipe: tuple[IO[bytes], IO[bytes]],
) -> None:
    reading, writing = pipe
    outbox, inbox = Outbox(writing, EVENTS), Inbox(EVENTS.read(reading))
    large = EngineStarted({"text": "x" * 1_000_000})
    for event in (Heartbeat(1), large, Heartbeat(2)):
        outbox.send(event)
        assert inbox.get(10) == event
    with pytest.raises(TimeoutError):
        inbox.get(0.01)
    writing.close()
    assert inbox.get(10) is None
    assert reading.closed


def test_half_a_last_line_is_the_end(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    reading, writing = pipe
    whole = EVENTS.encode(Heartbeat(1, time=1.0))
    writing.write(whole + whole[:-1])
    writing.close()
    assert list(EVENTS.read(reading)) == [Heartbeat(1, time=1.0)]


def test_a_wrong_line_is_raised_where_messages_are_awaited() -> None:
    inbox = Inbox(EVENTS.read(io.BytesIO(EVENTS.encode(Heartbeat(1)) + b"oops\n")))
    assert isinstance(inbox.get(10), Heartbeat)
    with pytest.raises(ChannelError, match="oops"):
        inbox.get(10)


def test_what_is_sent_to_a_process_that_has_ended_is_dropped(
    pipe: tuple[IO[bytes], IO[bytes]],
) -> None:
    reading, writing = pipe
    reading.close()
    outbox = Outbox(writing, COMMANDS)
    for _ in range(3):
        outbox.send(Exit())
    with pytest.raises(BrokenPipeError):
        writing.close()


def test_reading_waits_in_a_thread_that_keeps_no_process_alive(
    pipe: tuple[IO[bytes], IO[bytes]],
) -> None:
    before = set(threading.enumerate())
    Inbox(EVENTS.read(pipe[0]))
    (reader,) = set(threading.enumerate()) - before
    assert reader.daemon
    pipe[1].close()
    reader.join(10)


# events.jsonl


def test_events_of_a_file_come_without_the_lines_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert list(read_events(file)) == []
    first, last = Heartbeat(1, time=1.0), Heartbeat(2, time=2.0)
    blotted = b'{"event": "heartbeat", "steps": ***}\n'
    file.write_bytes(EVENTS.encode(first) + blotted + EVENTS.encode(last) + b'{"event": "hea')
    assert list(read_events(file)) == [first, last]


def test_no_estimate_differs_from_none_yet() -> None:
    never, not_yet = (
        EVENTS.decode(b'{"event": "heartbeat", "steps": 1}'),
        EVENTS.decode(b'{"event": "heartbeat", "steps": 1, "seconds_left": null}'),
    )
    assert isinstance(never, Heartbeat) and never.seconds_left is MISSING
    assert isinstance(not_yet, Heartbeat) and not_yet.seconds_left is None
