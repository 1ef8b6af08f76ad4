"""A hub on loopback: Hugging Face's protocol as huggingface_hub speaks it, and its faults.

    with Hub({"owner/model": {"config.json": b"…", "model.safetensors": b"…"}}) as hub:
        hub.faults.append(Cut("model.safetensors", after=1000))

Files over 1 kB that are not text are kept in LFS, as on the hub: their ETag is their SHA-256, and
they are fetched from a second, signed address. Nothing announces Xet.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf", ".parquet")
SIGNATURE = "Signature=not-to-be-shown"


@dataclass
class Fault:
    """What goes wrong with one file (or, with `path=""`, with the repository), so many times."""

    path: str
    times: int = 1_000_000


@dataclass
class Status(Fault):
    """An answer with this status, and the hub's word for why."""

    code: int = 500
    error: str | None = None


@dataclass
class Cut(Fault):
    """The connection ends after so many bytes of those that were announced."""

    after: int = 0


@dataclass
class Short(Fault):
    """A complete answer that holds less than the hub lists."""

    bytes: int = 0


@dataclass
class Other(Fault):
    """Content of the right size that is not the file's."""


@dataclass
class Hang(Fault):
    """No answer, until the server stops."""


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Repository:
    """One repository at one commit."""

    kind: str
    id: str
    files: dict[str, bytes]
    gated: bool = False

    @property
    def sha(self) -> str:
        content = repr(sorted((path, sha256(data)) for path, data in self.files.items()))
        return hashlib.sha1(content.encode()).hexdigest()


@dataclass
class Hub:
    """Repositories by id, the faults to come, and every request that came."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def repository(self, kind: str, identifier: str) -> Repository | None:
        files = (self.models if kind == "model" else self.datasets).get(identifier)
        if files is None:
            return None
        return Repository(kind, identifier, files, identifier in self.gated)

    def fault(self, path: str, *kinds: type[Fault]) -> Any:
        """The next fault that this request meets, used up by one."""
        for fault in self.faults:
            if fault.path == path and fault.times > 0 and isinstance(fault, kinds):
                fault.times -= 1
                return fault
        return None

    def fetched(self, name: str) -> list[Asked]:
        """The requests for a file's content."""
        return [each for each in self.asked if each.method == "GET" and name in each.path]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            split = urlsplit(self.path)
            path, query = unquote(split.path), parse_qs(split.query)
            authorization = self.headers.get("Authorization")
            asked = Asked(self.command, self.path, self.headers.get("Range"), authorization)
            hub.asked.append(asked)
            if path.startswith("/api/"):
                self._api(path.removeprefix("/api/"), query)
            elif path.startswith("/cdn/"):
                _, _, kind, rest = path.split("/", 3)
                identifier, _, file = rest.partition("//")
                repository = hub.repository(kind, identifier)
                assert repository is not None
                self._content(repository, file)
            else:
                self._resolve(path)

        def _api(self, path: str, query: dict[str, list[str]]) -> None:
            kinds, _, rest = path.partition("/")
            kind = kinds.removesuffix("s")
            identifier, tree = rest, False
            for marker in ("/revision/", "/tree/"):
                if marker in rest:
                    identifier, _, revision = rest.partition(marker)
                    tree = marker == "/tree/"
            repository = hub.repository(kind, identifier)
            if hub.fault("", Hang):
                hub.stopping.wait()
                return
            if (failure := hub.fault("", Status)) is not None:
                self._failed(failure.code, failure.error)
            elif repository is None:
                self._failed(401 if "authorization" not in self.headers else 404, "RepoNotFound")
            elif identifier != rest and revision not in ("main", repository.sha):
                self._failed(404, "RevisionNotFound")
            elif tree:
                self._json([_tree_entry(file, data) for file, data in repository.files.items()])
            else:
                siblings = [_sibling(file, data) for file, data in repository.files.items()]
                config = {"architectures": ["Cut"]}  # the API's own is not the file
                about = {"id": identifier, "sha": repository.sha, "private": False}
                about |= {"gated": "manual" if repository.gated else False, "tags": []}
                about |= {"config": config, "downloads": 0, "likes": 0}
                self._json({**about, "siblings": siblings if "blobs" in query else []})

        def _resolve(self, path: str) -> None:
            place, _, rest = path.strip("/").partition("/resolve/")
            kind = "dataset" if place.startswith("datasets/") else "model"
            identifier = place.removeprefix("datasets/")
            revision, _, file = rest.partition("/")
            repository = hub.repository(kind, identifier)
            if repository is None or revision not in ("main", repository.sha):
                self._failed(404, "RepoNotFound")
                return
            allowed = self.headers.get("Authorization") == f"Bearer {hub.token}"
            if repository.gated and not (hub.token and allowed):
                self._failed(403 if self.headers.get("Authorization") else 401, "GatedRepo")
                return
            if (failure := hub.fault(file, Status)) is not None:
                self._failed(failure.code, failure.error)
                return
            data = repository.files.get(file)
            if data is None:
                self._failed(404, "EntryNotFound")
            elif is_lfs(file):
                self.send_response(302)
                self.send_header("X-Repo-Commit", repository.sha)
                self.send_header("X-Linked-Size", str(len(data)))
                self.send_header("X-Linked-Etag", f'"{sha256(data)}"')
                cdn = f"{hub.endpoint}/cdn/{kind}/{identifier}//{file}?{SIGNATURE}"
                self.send_header("Location", cdn)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._content(repository, file)

        def _content(self, repository: Repository, file: str) -> None:
            data = repository.files[file]
            etag = sha256(data) if is_lfs(file) else git_oid(data)
            wanted = self.headers.get("Range")
            start, end = 0, len(data)
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), int(last) + 1 if last else len(data)
            if self.command == "GET":
                if hub.fault(file, Hang):
                    hub.stopping.wait()
                    return
                if hub.fault(file, Other):
                    data = bytes(byte ^ 1 for byte in data)
                if (short := hub.fault(file, Short)) is not None:
                    data, end = data[: short.bytes], min(end, short.bytes)
            body = data[start:end]
            self.send_response(206 if wanted else 200)
            self.send_header("X-Repo-Commit", repository.sha)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Accept-Ranges", "bytes")
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if (cut := hub.fault(file, Cut)) is not None:
                body = body[: cut.after]
                self.close_connection = True
            self.wfile.write(body)

        def _json(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _failed(self, code: int, error: str | None) -> None:
            body = json.dumps({"error": error or "Internal Error"}).encode()
            self.send_response(code)
            if error is not None:
                self.send_header("X-Error-Code", error)
                self.send_header("X-Error-Message", f"{error} of {self.path}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    about: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_oid(data)}
    if is_lfs(path):
        about["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
    return about


def _tree_entry(path: str, data: bytes) -> dict[str, Any]:
    about: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
    about["oid"] = git_oid(data)
    if is_lfs(path):
        about["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
    return about
