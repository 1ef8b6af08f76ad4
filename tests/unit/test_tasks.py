"""Which of lm-eval's task files are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config.loading import PACKAGE
from runner.lm.tasks import Managers, task_manager

CANARY = str(PACKAGE / "canary" / "tasks")


def test_tasks_of_a_directory_are_found_without_lm_evals_thousands() -> None:
    held: Managers = {}
    manager = task_manager(CANARY, ["canary", "canary_count"], held)
    assert {name.partition("_")[0] for name in manager.all_tasks} == {"canary"}
    assert task_manager(CANARY, ["canary_shape"], held) is manager


@pytest.mark.slow
def test_a_group_with_a_member_elsewhere_is_whole(tmp_path: Path) -> None:
    (tmp_path / "group.yaml").write_text("group: ours\ntask: [gsm8k]\n")
    (tmp_path / "task.yaml").write_text("task: mine\ntag: gsm8k_variants\ndataset_path: x\n")
    held: Managers = {}
    manager = task_manager(str(tmp_path), ["ours"], held)
    assert {"ours", "mine", "gsm8k"} <= set(manager.all_tasks)
    assert task_manager(str(tmp_path), ["gsm8k"], held) is manager
    assert list(task_manager(str(tmp_path), ["mine"], held).all_tasks) != manager.all_tasks
