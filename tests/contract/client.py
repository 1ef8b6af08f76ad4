"""Talks to `upstream.py`: one process for each series, asked one case at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.wheels import ContractError

HERE = Path(__file__).parent
# What a developer's shell may set and a case must not inherit: it would decide in its place.
FOREIGN = (
    *("VLLM", "ASCEND", "HCCL", "LCCL", "ATB", "NPU"),
    *("HF_", "TRANSFORMERS", "TORCH", "PYTORCH"),
)


@dataclass(frozen=True)
class Answer:
    """What upstream made of one case: resolved facts, or a refusal."""

    facts: dict[str, Any]
    refused: str | None = None
    type: str = ""
    where: str = ""


class Upstream:
    """vllm-ascend as built for one series; its imports take some 20 s, then a case 0.2 s."""

    def __init__(self, series: str, tree: Path, home: Path) -> None:
        """`home` takes what the libraries write: logs, caches, copies of remote code."""
        home.mkdir(parents=True, exist_ok=True)
        self.series = series
        self._asked = 0
        self._log = home / "stderr.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling it all again costs seconds
        environment |= {
            "PYTHONPATH": str(tree),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "OMP_NUM_THREADS": "1",  # also: a fork may not find half of a thread pool
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "upstream.py"), series],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=home,
            )

    def ask(self, args: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Answer:
        """What `vllm.LLM(**args)` comes to in an environment.

        Raises:
            ContractError: if the process has died, with the end of what it said.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asked += 1
        case = {"id": self._asked, "args": dict(args), "env": dict(env or {})}
        try:
            self._process.stdin.write(json.dumps(case) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContractError(f"upstream.py {self.series} has died: {self._tail()}")
        answer = json.loads(line)
        if answer["id"] != self._asked or "died" in answer:
            raise ContractError(f"no answer to {case}: {answer}: {self._tail()}")
        return Answer(
            facts=answer.get("accepted", {}),
            refused=answer.get("refused"),
            type=answer.get("type", ""),
            where=answer.get("where", ""),
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]
