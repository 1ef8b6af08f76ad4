"""An engine in a process of its own, which starts while the worker builds the requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.supervision.processes import group_members
from tests.e2e.conftest import Finished, Run
from tests.events import events
from tests.swept import Swept

pytestmark = pytest.mark.slow

OWN_PROCESS = (
    "engine.env.VLLM_ENABLE_V1_MULTIPROCESSING='1'",
    "+engine.env.VLLM_WORKER_MULTIPROC_METHOD=spawn",
    "tracking=off",
)
# Known only when the requests are built.
REJECTED = "task.names=canary_count: generation_kwargs: vLLM rejects"


def workers(run: Path) -> list[int]:
    found = [each for each in events(run / "events.jsonl") if each["event"] == "worker_started"]
    return [each["pid"] for each in found]


def answers(run: Path) -> dict[tuple[str, int], list[int]]:
    import pyarrow.parquet as pq

    rows = pq.read_table(run / "samples.parquet").to_pylist()
    return {(row["task"], row["doc_id"]): row["token_ids"] for row in rows}


def test_it_outlives_a_run_whose_requests_cannot_be_built(
    tmp_path: Path, default_run: Finished
) -> None:
    """And it answers like an engine in the worker's own process."""
    sweep = Swept(tmp_path / "sweep", f"sqlite:///{tmp_path / 'mlflow.db'}")
    sweep.run(*OWN_PROCESS, "task.limit=40", "task.gen_kwargs.top_p=5,1")
    assert sweep.statuses() == [1, 4], sweep.printed
    assert REJECTED in sweep.printed
    assert "Traceback" not in sweep.printed
    first, second = (sweep.directory / number for number in ("0", "1"))
    (worker,) = workers(first)
    assert workers(second) == []
    assert group_members(worker) == []
    logs = "".join((run / "engine.log").read_text() for run in (first, second))
    assert logs.count("Initializing a V1 LLM engine") == 1
    expected = answers(default_run.directory)
    found = answers(second)
    assert len(found) == 6 * 40
    assert found == {question: expected[question] for question in found}


@pytest.mark.exhaustive
def test_a_worker_that_ends_while_it_starts_leaves_no_process(run: Run) -> None:
    finished = run(*OWN_PROCESS, "task.limit=40", "task.gen_kwargs.top_p=5")
    assert finished.status == 1, finished.printed
    assert REJECTED in finished.printed
    assert "Traceback" not in finished.printed
    assert "starting engine" not in finished.printed
    (worker,) = workers(finished.directory)
    assert group_members(worker) == []
