"""Messages as JSON lines, and how both ends of a pipe read and write them.

A message is a frozen dataclass. The same rules hold for every child process:

- A last line without a newline is dropped: its writer died while writing it.
- A message to a process that has ended is dropped too. The end of what that process sends shows
  that it has ended.
- Any other line that is not a known message is a ChannelError at the reader.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import IO, Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter

# A wrong line is quoted up to this length.
LONGEST_QUOTE = 200


@dataclass(frozen=True)
class Message:
    """Base class of all messages."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


M = TypeVar("M", bound=Message)


class ChannelError(ValueError):
    """A complete line that is not a known message."""


class Codec(Generic[M]):
    """Converts messages to lines and back.

    A line is a JSON object with the message's name under `key`, and its fields except those that
    have their default value. `types` are the messages by name.
    """

    def __init__(self, key: str, types: Mapping[str, type[M]]) -> None:
        self.types = types
        self._key = key
        self._names = {kind: name for name, kind in types.items()}
        self._adapters: dict[str, TypeAdapter[Any]] = {}  # each is made when it is needed

    def encode(self, message: M) -> bytes:
        """Return the message's line, with its newline."""
        content = {
            each.name: value
            for each in fields(message)
            if (value := getattr(message, each.name)) != each.default
        }
        named = {self._key: self._names[type(message)], **content}
        return json.dumps(named, default=os.fspath).encode() + b"\n"

    def decode(self, line: bytes) -> M:
        """Return the line's message.

        Raises:
            ChannelError: if it is not a known message with exactly its fields.
        """
        try:
            content = json.loads(line)
            name = content.pop(self._key)
            if name not in self._adapters:
                self._adapters[name] = TypeAdapter(self.types[name])
            message: M = self._adapters[name].validate_python(content)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            quoted = line[:LONGEST_QUOTE].decode(errors="replace")
            raise ChannelError(f"not a known {self._key}: {quoted!r}") from error
        return message

    def read(self, stream: IO[bytes]) -> Iterator[M]:
        """Yield the stream's messages until its end, then close it.

        Raises:
            ChannelError: at a line that is not a known message.
        """
        with stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                yield self.decode(line)


class Outbox(Generic[M]):
    """Sends messages to another process."""

    def __init__(self, stream: IO[bytes], codec: Codec[M]) -> None:
        self._stream = stream
        self._codec = codec

    def send(self, message: M) -> None:
        """Write the message's line at once."""
        line = self._codec.encode(message)
        with suppress(BrokenPipeError):
            self._stream.write(line)
            self._stream.flush()


class Inbox(Generic[M]):
    """Receives messages from another process, in a thread of its own."""

    def __init__(self, messages: Iterator[M]) -> None:
        self._arrived: queue.Queue[M | Exception | None] = queue.Queue()
        threading.Thread(target=self._receive, args=(messages,), daemon=True).start()

    def get(self, timeout_s: float | None = None) -> M | None:
        """Wait for the next message; None if the other process sends no more.

        Raises:
            TimeoutError: if none has arrived in time.
            ChannelError: if a line that is not a known message has arrived.
        """
        try:
            arrived = self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(arrived, Exception):
            raise arrived
        return arrived

    def _receive(self, messages: Iterator[M]) -> None:
        try:
            for message in messages:
                self._arrived.put(message)
        except Exception as error:
            self._arrived.put(error)
        else:
            self._arrived.put(None)
