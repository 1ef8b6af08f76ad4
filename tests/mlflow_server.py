"""A small MLflow server on loopback that keeps what it is told, and misbehaves when asked to."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

FOR_EVER_S = 3600.0
API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/"


@dataclass
class Server:
    """What was stored, and how the next requests are answered.

    `fault` is one of the names below, or a status; `after` is how many requests are answered well
    before it sets in, or what they asked for last.

    - silent: takes the request and never answers
    - dribble: answers a byte a second
    - html: a page with status 200, as a captive portal does
    - garbage: bytes that are no text, with status 200
    - cut: closes the connection without an answer
    - lost: does what it is told, and then closes the connection without an answer
    """

    uri: str = ""
    fault: str | int = ""
    after: int | str = 0
    experiments: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    experiment_tags: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def misbehave(self, fault: str | int, after: int | str = 0) -> None:
        self.fault, self.after = fault, after

    def behave(self) -> None:
        self.fault = ""

    def due(self) -> str | int:
        """The fault that this request, the last of `asked`, meets."""
        if isinstance(self.after, str):
            return self.fault if API + self.after in self.asked[:-1] else ""
        if self.fault and self.after > 0:
            self.after -= 1
            return ""
        return self.fault

    def tags(self, run_id: str) -> dict[str, str]:
        return {each["key"]: each["value"] for each in self.runs[run_id]["data"]["tags"]}

    def artifacts(self, run_id: str) -> set[str]:
        return {name.partition("/artifacts/")[2] for name in self.files if run_id in name}

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if path == "experiments/get-by-name":
            name = asked["experiment_name"][0]
            if name not in self.experiments:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no experiment"}
            found = _experiment(name, self.experiments[name])
            if name in self.deleted:
                found["lifecycle_stage"] = "deleted"
            return 200, {"experiment": found}
        if path == "experiments/search":
            every = [_experiment(name, number) for name, number in self.experiments.items()]
            return 200, {"experiments": every}
        if path == "experiments/create":
            number = self.experiments.setdefault(asked["name"], str(len(self.experiments) + 1))
            return 200, {"experiment_id": number}
        if path == "experiments/get":
            (name,) = (
                n for n, each in self.experiments.items() if [each] == asked["experiment_id"]
            )
            tags = [{"key": key, "value": value} for key, value in self.experiment_tags.items()]
            return 200, {"experiment": _experiment(name, self.experiments[name]) | {"tags": tags}}
        if path == "experiments/set-experiment-tag":
            self.experiment_tags[asked["key"]] = asked["value"]
            return 200, {}
        if path == "runs/create":
            run_id = uuid.uuid4().hex
            self.runs[run_id] = {
                "info": {
                    "run_id": run_id,
                    "run_uuid": run_id,
                    "experiment_id": asked["experiment_id"],
                    "status": "RUNNING",
                    "start_time": asked["start_time"],
                    "lifecycle_stage": "active",
                    "artifact_uri": f"mlflow-artifacts:/{run_id}/artifacts",
                },
                "data": {"tags": asked.get("tags", []), "params": [], "metrics": []},
            }
            return 200, {"run": self.runs[run_id]}
        if path == "runs/search":
            return 200, {"runs": [run for run in self.runs.values() if self._matches(run, asked)]}
        run = self.runs.get(_one(asked.get("run_id") or asked["run_uuid"]))
        if run is None:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}
        if path == "runs/get":
            return 200, {"run": run}
        if path == "runs/delete":
            run["info"]["lifecycle_stage"] = "deleted"
        elif path == "runs/update":
            run["info"] |= {key: asked[key] for key in ("status", "end_time") if key in asked}
            return 200, {"run_info": run["info"]}
        elif path == "runs/set-tag":
            others = [each for each in run["data"]["tags"] if each["key"] != asked["key"]]
            run["data"]["tags"] = [*others, {"key": asked["key"], "value": asked["value"]}]
        elif path == "runs/delete-tag":
            run["data"]["tags"] = [e for e in run["data"]["tags"] if e["key"] != asked["key"]]
        elif path == "runs/log-inputs":
            run["inputs"] = {"dataset_inputs": asked["datasets"]}
        elif path == "runs/log-batch":
            for kind in ("params", "metrics", "tags"):
                kept = {each["key"]: each for each in [*run["data"][kind], *asked.get(kind, [])]}
                run["data"][kind] = list(kept.values())
        else:
            raise NotImplementedError(path)
        return 200, {}

    def _matches(self, run: dict[str, Any], asked: dict[str, Any]) -> bool:
        if run["info"]["lifecycle_stage"] != "active":
            return False
        tags = self.tags(run["info"]["run_id"]) | {"status": run["info"]["status"]}
        wanted = re.findall(r"(?:tags|attributes)\.(\w+) = '([^']*)'", asked.get("filter", ""))
        return all(tags.get(key) == value for key, value in wanted)


def _experiment(name: str, number: str) -> dict[str, Any]:
    return {
        "experiment_id": number,
        "name": name,
        "artifact_location": f"mlflow-artifacts:/{number}",
        "lifecycle_stage": "active",
    }


def _one(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


@contextmanager
def serving() -> Iterator[Server]:
    """The server, until the end of the block."""
    server = Server()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._body()  # MLflow sends one
            self._handle(parse_qs(urlsplit(self.path).query))

        def do_POST(self) -> None:
            self._handle(json.loads(self._body() or b"{}"))

        do_PATCH = do_DELETE = do_POST

        def do_PUT(self) -> None:
            self._handle({"content": self._body()})

        def log_message(self, *arguments: Any) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _handle(self, asked: dict[str, Any]) -> None:
            path = unquote(urlsplit(self.path).path)
            server.asked.append(path)
            fault = server.due()
            if fault == "silent":
                over.wait(FOR_EVER_S)
                self.close_connection = True
            elif fault == "cut":
                self.close_connection = True
            elif fault == "html":
                self._reply(200, b"<!doctype html><title>Sign in</title>", "text/html")
            elif fault == "garbage":
                self._reply(200, bytes(range(256)), "application/json")
            elif isinstance(fault, int):
                self._reply(fault, b"<h1>no</h1>", "text/html")
            else:
                status, content = self._done(path, asked)
                if fault == "lost":
                    self.close_connection = True
                else:
                    self._reply(status, content, "application/json", fault == "dribble")

        def _done(self, path: str, asked: dict[str, Any]) -> tuple[int, bytes]:
            if path.startswith(FILES):
                server.files[path.removeprefix(FILES)] = asked["content"]
                return 200, b"{}"
            status, content = server.answer(path.removeprefix(API), asked)
            return status, json.dumps(content).encode()

        def _reply(self, status: int, content: bytes, kind: str, slowly: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content) if not slowly else FOR_EVER_S))
            self.end_headers()
            try:
                if slowly:
                    while not over.wait(1):
                        self.wfile.write(b" ")
                else:
                    self.wfile.write(content)
            except OSError:  # who asked is gone
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.uri = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        over.set()
        http.shutdown()
        http.server_close()


def wait_until(what: Any, patience_s: float = 30.0) -> None:
    """Until it is true."""
    until = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)
