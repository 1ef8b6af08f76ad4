"""A run's journal: saves answers as they arrive, and reads those of unfinished attempts.

It serves to resume runs and is not a cache: when a run completes, the answers that it used or wrote
are removed. If it stopped early, they stay for the run that continues it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from runner.digest import last_changes
from runner.errors import UserError
from runner.inputs.paths import local_paths
from runner.journal.attempts import (
    CORRUPT,
    FIRST_LINE,
    CorruptError,
    attempts,
    create,
    line,
    prune,
    records,
    seize,
)
from runner.lm.answer import Answer
from runner.lm.images import image_hash
from runner.plan import JournalPlan, Plan
from runner.rundir import RunDirectory, read_json
from runner.status import FINAL, Status

Key = tuple[str, int]
_ANSWERS = TypeAdapter(Answer)
_FIELDS = tuple(each.name for each in fields(Answer))


class Asked(Protocol):
    """The properties of a question that the journal needs.

    `prompt` is vLLM's input: text with images, or token ids. `settings` contains everything that
    the answer depends on besides prompt, engine and `kind`. `drawn` says that the answer is sampled
    at random, so another attempt would get another one.
    """

    @property
    def prompt(self) -> Any: ...

    @property
    def settings(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def drawn(self) -> bool: ...


@dataclass
class _Taken:
    """A file of an earlier attempt that this run has taken over, with its records' positions."""

    file: Path
    descriptor: int
    places: dict[Key, tuple[int, int]]


class Journal:
    """Saved answers by question. Equal questions of a run are told apart by their order."""

    def __init__(
        self,
        directory: Path,
        run: Path,
        most_bytes: float,
        warn: Callable[[str], None],
        continues: Path | None = None,
        stops: bool = False,
    ) -> None:
        """Take over the files that unfinished attempts left in `directory`, one engine's journal.

        `run` is the directory of this run. `most_bytes` limits the size of the whole journal, that
        is, of `directory` and its siblings. The answers of a run that stopped early are used only
        by a run that `continues` it, and are removed by the next one that `stops` early itself.
        """
        self._continues, self._stops = continues, stops
        self._directory = directory
        self._run = str(run.resolve())
        self._claim = self._claimed({"continues": str(continues)} if continues else {})
        self._warn = warn
        self._taken: list[_Taken] = []
        self._used: set[Key] = set()
        self._asked: Counter[str] = Counter()
        self._pending: list[bytes] = []
        self._own: tuple[Path, int] | None = None
        self._written = 0
        self._open = True
        for file in sorted(directory.glob("*.answers")):
            self._take_over(file)
        self._room = most_bytes
        try:
            prune(attempts(directory.parent), most_bytes)
            self._room -= sum(each.size for each in attempts(directory.parent))
        except OSError as error:
            self._give_up(str(error))

    @property
    def resumes(self) -> bool:
        """Whether there are answers of an earlier attempt."""
        return bool(self._taken)

    def take(self, question: Asked) -> tuple[Hashable, Answer | None]:
        """The question's key, and the answer that an unfinished attempt got for it, if any.

        A question with a random answer has no key and is not resumed.
        """
        if question.drawn:
            return None, None
        digest = identity(question)
        key = (digest, self._asked[digest])
        self._asked[digest] += 1
        for taken in self._taken:
            if key in taken.places:
                self._used.add(key)
                offset, length = taken.places[key]
                return key, _record(json.loads(os.pread(taken.descriptor, length, offset)))[1]
        return key, None

    def keep(self, key: Hashable, answer: Answer) -> None:
        """Add the answer to what the next `flush` writes."""
        if self._open and isinstance(key, tuple):
            digest, number = key
            values = (getattr(answer, name) for name in _FIELDS)  # astuple would copy every list
            content = json.dumps([digest, number, *values], separators=(",", ":"), default=asdict)
            self._pending.append(line(content.encode()))

    def flush(self) -> None:
        """Write all pending answers. After this call they survive the death of this process."""
        pending, self._pending = b"".join(self._pending), []
        if not pending or not self._open:
            return
        if len(pending) > self._room:
            self._give_up("journal.max_gib is reached")
            return
        try:
            if self._own is None:
                self._own = create(self._directory)
                pending = line(FIRST_LINE) + self._claim + pending
            self._write(pending)
        except OSError as error:
            self._give_up(str(error))

    def close(self, completed: bool, stopped: bool = False) -> None:
        """Close all files. If the run completed, remove the answers that it used or wrote.

        If it `stopped` early, they stay, marked as those of a stopped run.
        """
        self._open = False
        if completed and stopped:
            descriptors = [each.descriptor for each in self._taken]
            for descriptor in [*descriptors, *([self._own[1]] if self._own is not None else [])]:
                with suppress(OSError):  # then the run's verdict still tells
                    os.lseek(descriptor, 0, os.SEEK_END)
                    os.write(descriptor, self._claimed({"stopped": True}))
            completed = False
        if self._own is not None:
            file, descriptor = self._own
            if completed:
                file.unlink(missing_ok=True)
            os.close(descriptor)
        for taken in self._taken:
            if completed and self._continues is not None:
                taken.file.unlink(missing_ok=True)  # no other run may use what is left
            elif completed:
                _drop(taken, self._used)
            os.close(taken.descriptor)
        self._own, self._taken = None, []
        if completed and self._directory.is_dir() and not any(self._directory.iterdir()):
            self._directory.rmdir()

    def _take_over(self, file: Path) -> None:
        descriptor = seize(file, tries=5)
        if descriptor is None:
            return
        places: dict[Key, tuple[int, int]] = {}
        claim, end = _Claim(), 0
        try:
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                for offset, content in records(stream):
                    end = offset + len(content) + 1
                    record = json.loads(content)
                    if isinstance(record, dict):
                        claim = _CLAIMS.validate_python(record)
                    else:
                        places[_record(record)[0]] = (offset, len(content))
            ended = _result(claim.run)
            stopped = claim.stopped or (ended is not None and ended.stopped)
            if not places or (ended is not None and not stopped):
                # A worker that was killed after its last answer could not remove
                # the file.
                file.unlink(missing_ok=True)
                os.close(descriptor)
                return
            of_stopped = claim.continues or (claim.run if stopped else "")
            if of_stopped and Path(of_stopped) != self._continues:
                if self._stops:
                    file.unlink(missing_ok=True)
                os.close(descriptor)
                return
            os.ftruncate(descriptor, end)
            os.pwrite(descriptor, self._claim, end)
        except (ValueError, OSError) as error:
            os.close(descriptor)
            aside = file.with_suffix(CORRUPT)
            with suppress(OSError):
                file.rename(aside)
            self._warn(f"journal: {file} is not used ({error}); renamed to {aside.name}")
            return
        self._taken.append(_Taken(file, descriptor, places))

    def _claimed(self, more: dict[str, Any]) -> bytes:
        return line(json.dumps({"run": self._run, **more}).encode())

    def _write(self, content: bytes) -> None:
        assert self._own is not None
        _, descriptor = self._own
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, self._written)
            raise
        self._written += len(content)
        self._room -= len(content)

    def _give_up(self, reason: str) -> None:
        self._open = False
        self._warn(f"journal: {reason}; the run continues, but further answers are not saved")


def open_journal(plan: Plan, where: JournalPlan, run: Path, warn: Callable[[str], None]) -> Journal:
    """Open the journal of the plan's engine.

    The directory's name includes the last changes of the files that the engine reads, as they are
    now: call this only after the engine has read them.
    """
    files = [Path(path).expanduser() for path in local_paths(plan.engine_args)]
    changed = last_changes(*files)[:8]
    directory = Path(f"{where.directory}-{changed}" if changed else where.directory)
    continues = Path(where.continues).resolve() if where.continues else None
    journal = Journal(
        directory, run, where.max_gib * 2**30, warn, continues=continues, stops=plan.sequential
    )
    if continues is not None and not journal.resumes:
        journal.close(completed=False)
        raise UserError(
            f"journal.continues={where.continues}: none of that run's answers are left: it was "
            "continued before, or a later run with verdict.sequential=true removed them; remove "
            "the key to ask all questions"
        )
    return journal


def identity(question: Asked) -> str:
    """SHA-256 of everything that an answer depends on besides the engine."""
    prompt = question.prompt
    if "prompt_token_ids" in prompt:
        asked: Any = list(prompt["prompt_token_ids"])
    else:
        shown = prompt.get("multi_modal_data") or {}
        asked = [prompt["prompt"], [[kind, _contents(shown[kind])] for kind in sorted(shown)]]
    content = json.dumps([question.kind, asked, question.settings], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class _Claim:
    """The run that last used a file. It `stopped` early, or `continues` the stopped run there."""

    run: str = ""
    continues: str = ""
    stopped: bool = False


_CLAIMS = TypeAdapter(_Claim)


@dataclass(frozen=True)
class _Ended:
    """The part of a verdict that the journal needs."""

    status: Status
    stopped: bool = False


def _result(run: str) -> _Ended | None:
    """The verdict of the run that last used a file; None if it needs another attempt."""
    if not run:
        return None
    try:
        ended: _Ended = read_json(RunDirectory(Path(run)).verdict, _Ended)
    except (OSError, ValueError):  # missing or unreadable: no result
        return None
    return ended if ended.status in FINAL else None


def _contents(items: Any) -> list[str]:
    return [image_hash(item) for item in (items if isinstance(items, list) else [items])]


def _record(record: Any) -> tuple[Key, Answer]:
    """The key and the answer of a record.

    Raises:
        CorruptError: if the record has another shape, because another program wrote it.
    """
    try:
        digest, number, *values = record
        answer = _ANSWERS.validate_python(dict(zip(_FIELDS, values, strict=False)))
    except (TypeError, ValueError) as error:
        raise CorruptError("it has a record that is not an answer") from error
    if not (isinstance(digest, str) and isinstance(number, int) and len(values) <= len(_FIELDS)):
        raise CorruptError("it has a record that is not an answer")
    return (digest, number), answer


def _drop(taken: _Taken, used: set[Key]) -> None:
    """Remove the used records, or the whole file if none is left.

    Unused records stay, because other tasks of the same engine may need them.
    """
    left = [place for key, place in taken.places.items() if key not in used]
    if len(left) == len(taken.places) and left:
        return
    if not left:
        taken.file.unlink(missing_ok=True)
        return
    kept = [line(os.pread(taken.descriptor, length, offset)) for offset, length in left]
    beside = taken.file.with_name(f".{taken.file.name}")
    beside.write_bytes(line(FIRST_LINE) + b"".join(kept))
    beside.replace(taken.file)
