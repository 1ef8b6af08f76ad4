"""The questions of a reference run that are replayed: a random draw that is always the same."""

from __future__ import annotations

from runner.evidence.samples import Sample
from runner.reference.drawn import drawn

SIZES = {"a": 300, "b": 100, "c": 2}
SAMPLES = [Sample(task, place) for task, size in SIZES.items() for place in range(size)]


def test_each_subtask_gives_its_share_and_at_least_one() -> None:
    found = drawn(SAMPLES, 40, "seed")
    assert {task: len(documents) for task, documents in found.items()} == {"a": 30, "b": 10, "c": 1}
    assert all(documents == sorted(set(documents)) for documents in found.values())


def test_each_task_of_a_run_gives_as_many() -> None:
    tasks = {name: [Sample(name, place, evaluation=name) for place in range(200)] for name in "xy"}
    small = [Sample("z", place, evaluation="z") for place in range(15)]
    found = drawn([*tasks["x"], *tasks["y"], *small], 40, "seed")
    assert {task: len(documents) for task, documents in found.items()} == {
        "x": 40,
        "y": 40,
        "z": 15,
    }
    assert found["x"] == drawn(tasks["x"], 40, "seed")["x"]  # whatever else was asked


def test_it_is_the_same_for_the_same_reference_run_and_another_for_another() -> None:
    again = drawn([*reversed(SAMPLES), *SAMPLES], 40, "seed")
    assert again == drawn(SAMPLES, 40, "seed")
    assert again["c"] == [1] and again["b"][:3] == [14, 16, 22]  # on every machine
    assert again != drawn(SAMPLES, 40, "other")


def test_more_than_there_are_means_all() -> None:
    assert drawn(SAMPLES, 10**6, "seed")["a"] == list(range(300))
    assert drawn([], 10, "seed") == {}
