"""ModelScope on loopback: what of its protocol `modelscope_hub` 0.5 uses to list and to fetch."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class ModelScope:
    """Repositories by id; `cuts` says how often a file's answer is still to be broken off."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    other: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)

    def __enter__(self) -> ModelScope:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


def _handler(hub: ModelScope) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(split.query).items()}
            parts = unquote(split.path).strip("/").split("/")
            kinds, identifier, what = parts[2], "/".join(parts[3:5]), "/".join(parts[5:])
            known = {"models": hub.models, "datasets": hub.datasets}.get(kinds, {})
            files = known.get(identifier)
            if files is None:
                self._json(404, {"Code": 10010205001, "Message": "not found", "Success": False})
            elif what in ("repo/files", "repo/tree"):
                listed = [_entry(path, data) for path, data in files.items()]
                self._json(200, {"Code": 200, "Success": True, "Data": {"Files": listed}})
            else:
                self._content(files, query["FilePath"])

        def _content(self, files: dict[str, bytes], path: str) -> None:
            hub.fetched.append(path)
            data = files[path]
            if path in hub.other:
                data = bytes(byte ^ 1 for byte in data)
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            body = data[start:]
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if hub.cuts.get(path, 0):
                hub.cuts[path] -= 1
                body = body[: len(body) // 2]
                self.close_connection = True
            self.wfile.write(body)

        def _json(self, code: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _entry(path: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    name = path.rpartition("/")[2]
    return {"Path": path, "Name": name, "Size": len(data), "Sha256": digest, "Type": "blob"}
