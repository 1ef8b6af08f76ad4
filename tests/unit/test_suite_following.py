"""References that follow a suite's good nights, and never move on a night with a doubt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from runner import promote
from runner.channel.sender import Download, FindAlias, GiveAlias
from runner.errors import UserError
from runner.rundir import write_json
from runner.suite import following, nights, result
from runner.suite.finish import judged
from runner.suite.following import Step, doubt, follow
from runner.suite.nights import Night
from runner.suite.result import SuiteResult
from runner.sweep.record import point_directory
from runner.sweep.summary import read_sweep
from runner.tracking.courier import Courier
from runner.tracking.sender_process import NotSent
from runner.tracking.tracked import TrackedRun
from tests.suites import Played, night, right
from tests.sweeps import Found

URI = "http://127.0.0.1:9"


@dataclass
class Store:
    """The aliases in MLflow: the id of the run that has each."""

    aliases: dict[str, str] = field(default_factory=dict)
    doubled: set[str] = field(default_factory=set)

    def ask(self, request: object, timeout_s: float) -> object:
        if isinstance(request, FindAlias):
            assert not request.required
            if request.name in self.doubled:
                raise UserError("2 runs have this alias")
            return self.aliases.get(request.name, "")
        if isinstance(request, Download):
            raise UserError("no such run")
        assert isinstance(request, GiveAlias)
        assert (request.model, request.tasks) == ("tiny", ("mini",))
        self.aliases[request.name] = request.run_id
        return ()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def courier(store: Store, monkeypatch: pytest.MonkeyPatch) -> Courier:
    courier = Courier()
    monkeypatch.setattr(courier, "ask", store.ask)
    return courier


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ascend-accuracy-runner/runs"


Suite = Callable[..., Path]


@pytest.fixture
def suite(tmp_path: Path, cache: Path) -> Suite:
    """A night whose first entry's run is in MLflow (and in the user's cache)."""

    def finished(day: int, scores: list[float] | None, *more: Played, judge: bool = True) -> Path:
        given = Found(scores) if scores is not None else None
        date = f"2026-11-{day:02}"
        directory = night(tmp_path / "suites", [Played("one", given), *more], date, float(day))
        files = point_directory(directory, 0)
        if given is not None:
            write_json(files.tracked, TrackedRun(URI, "mini", "1", run_id(day)))
            shutil.copytree(files.path, cache / run_id(day))
        if judge:
            result.write(directory, judged(read_sweep(directory)))
        return directory

    return finished


def run_id(day: int) -> str:
    return f"{day:032x}"


def followed(directory: Path, courier: Courier, store: Store, count: int = 3) -> Step:
    moved: list[str] = []

    def promoted(run: str) -> None:
        moved.append(run)
        store.aliases["baseline"] = run_id(int(directory.parent.name[-2:]))

    step, *_ = steps = follow(directory, "baseline", count, courier, promoted)
    write_json(directory / nights.REFERENCES, steps)
    assert bool(moved) is not bool(step.doubt)
    return step


def test_the_reference_moves_after_three_good_nights_and_the_first_one_stays_known(
    suite: Suite, courier: Courier, store: Store
) -> None:
    said = [followed(suite(day, right(80)), courier, store).doubt for day in (1, 2, 3, 4)]
    assert said == ["only 1 night so far, 3 needed", "only 2 nights so far, 3 needed", "", ""]
    assert store.aliases == {"baseline": run_id(4), "baseline.first": run_id(3)}


def test_the_reference_of_before_is_the_first_one_and_is_compared(
    suite: Suite, courier: Courier, store: Store
) -> None:
    store.aliases["baseline"] = run_id(1)
    suite(1, right(84))
    suite(2, right(80))
    step = followed(suite(3, right(77)), courier, store, count=1)
    assert step.doubt.startswith("significantly worse than the first reference run")
    assert store.aliases == {"baseline": run_id(1)}
    assert not followed(suite(4, right(84)), courier, store, count=1).doubt
    assert store.aliases == {"baseline": run_id(4), "baseline.first": run_id(1)}


def test_without_a_reference_the_first_good_night_is_the_first_one(
    suite: Suite, courier: Courier, store: Store
) -> None:
    assert not followed(suite(1, right(80)), courier, store, count=1).doubt
    assert store.aliases == {"baseline": run_id(1), "baseline.first": run_id(1)}


def test_a_slow_slide_stops_the_reference(suite: Suite, courier: Courier, store: Store) -> None:
    """No night differs much from the one before, and each is within the rule's tolerance."""
    for day, count in ((1, 84), (2, 82), (3, 80)):
        assert not followed(suite(day, right(count)), courier, store, count=1).doubt
    step = followed(suite(4, right(77)), courier, store, count=1)
    assert step.doubt == "significantly worse than the first reference run (p = 0.0078)"
    assert step.drift is not None and (step.drift.worse, step.drift.better) == (7, 0)
    assert store.aliases == {"baseline": run_id(3), "baseline.first": run_id(1)}
    out = StringIO()
    following.show(Console(file=out, width=200), [step], "baseline")
    assert "one: baseline not updated: significantly worse" in out.getvalue()
    assert "against the first reference run: −7.0 points" in out.getvalue()


def test_a_first_reference_that_can_t_be_read_keeps_it_from_moving(
    suite: Suite, courier: Courier, store: Store, cache: Path
) -> None:
    store.aliases |= {"baseline": run_id(1), "baseline.first": run_id(1)}
    directory = suite(1, right(80))
    (cache / run_id(1) / "samples.parquet").write_bytes(b"PAR1")
    assert "not possible: " in followed(directory, courier, store, count=1).doubt
    shutil.rmtree(cache / run_id(1))
    assert "not possible: " in followed(directory, courier, store, count=1).doubt


def test_a_first_reference_without_the_same_questions_keeps_it_from_moving(
    suite: Suite, courier: Courier, store: Store, cache: Path
) -> None:
    """Nothing would be seen of a slide."""
    store.aliases |= {"baseline": run_id(1), "baseline.first": run_id(9)}
    other = night(
        cache.parent, [Played("one", Found(right(80), documents=["x"] * 100))], "2026-10-01"
    )
    shutil.copytree(point_directory(other, 0).path, cache / run_id(9))
    doubted = followed(suite(1, right(80)), courier, store, count=1).doubt
    assert doubted == f"it has no scores in common with the first reference run ({run_id(9)})"


def test_a_first_reference_with_few_of_the_questions_keeps_it_from_moving(
    suite: Suite, courier: Courier, store: Store, cache: Path
) -> None:
    """Hardly any loss would be significant."""
    store.aliases |= {"baseline": run_id(1), "baseline.first": run_id(9)}
    other = night(cache.parent, [Played("one", Found(right(20, 25)))], "2026-10-01")
    shutil.copytree(point_directory(other, 0).path, cache / run_id(9))
    doubted = followed(suite(1, right(80)), courier, store, count=1).doubt
    assert doubted.startswith("it has only 25 of 100 questions in common with the first reference")


def test_the_first_reference_is_marked_before_it_loses_its_alias(
    suite: Suite, courier: Courier, store: Store
) -> None:
    """Otherwise, nothing would tell which it was if the second step fails."""
    suite(1, right(80))
    store.aliases["baseline"] = run_id(1)

    def failing(run: str) -> None:
        raise NotSent("connection refused")

    (step,) = follow(suite(2, right(80)), "baseline", 1, courier, failing)
    assert step.doubt == "not possible: connection refused"
    assert store.aliases == {"baseline": run_id(1), "baseline.first": run_id(1)}


def test_the_first_reference_of_another_task_is_none(
    suite: Suite, courier: Courier, store: Store
) -> None:
    assert not followed(suite(1, right(80)), courier, store, count=1).doubt
    del store.aliases["baseline.first"]
    assert nights.noted_first(suite(2, right(80)), "one", "tiny/mini") == run_id(1)
    assert nights.noted_first(suite(3, right(80)), "one", "tiny/other") == ""


def test_a_first_reference_that_is_gone_from_mlflow_is_not_replaced(
    suite: Suite, courier: Courier, store: Store
) -> None:
    assert not followed(suite(1, right(80)), courier, store, count=1).doubt
    del store.aliases["baseline.first"]
    step = followed(suite(2, right(80)), courier, store, count=1)
    assert f"the first reference run ({run_id(1)}) is no longer in MLflow" in step.doubt
    store.doubled.add("baseline.first")
    step = followed(suite(3, right(80)), courier, store, count=1)
    assert "2 runs have this alias" in step.doubt


def test_an_alias_that_two_entries_share_does_not_move(
    suite: Suite, courier: Courier, store: Store
) -> None:
    directory = suite(1, right(80), Played("two", Found(right(80)), tier="advisory"))
    write_json(point_directory(directory, 1).tracked, TrackedRun(URI, "mini", "1", run_id(2)))
    one, two = follow(directory, "baseline", 1, courier, pytest.fail)
    assert one.doubt == "another entry has the same model and task (tiny/mini)"
    assert two.doubt == "it is advisory"


def test_a_night_without_a_result_is_a_doubt(suite: Suite, courier: Courier, store: Store) -> None:
    suite(1, right(80))
    killed = suite(2, right(40), judge=False)
    for day in (3, 4):
        step = followed(suite(day, right(80)), courier, store, count=2)
    assert not step.doubt  # it is before the last two
    assert followed(suite(5, right(80)), courier, store, count=4).doubt == f"{killed} has no result"
    result.write(killed, judged(read_sweep(killed)))
    (killed / result.NAME).write_text("{")
    assert followed(suite(6, right(80)), courier, store, count=5).doubt == f"{killed} has no result"


def test_only_the_latest_night_moves_references(
    suite: Suite, courier: Courier, store: Store
) -> None:
    first, second = suite(1, right(80)), suite(2, right(40))
    with pytest.raises(UserError, match=f"not the latest night, which is {second}"):
        follow(first, "baseline", 1, courier, pytest.fail)


@pytest.mark.parametrize(
    ("scores", "said"),
    [(right(40), "the suite's verdict was FAILED"), (None, "the suite's verdict was ERROR")],
)
def test_a_bad_night_is_a_doubt(
    suite: Suite, scores: list[float] | None, said: str, courier: Courier, store: Store
) -> None:
    suite(1, right(80))
    suite(2, scores)
    step = followed(suite(3, right(80)), courier, store)
    assert step.doubt == f"on 2026-11-02 22:10, {said}"


def test_each_doubt_about_a_night_counts(suite: Suite) -> None:
    known = [
        Night(place, result.read(place)) for place in (suite(2, right(80)), suite(1, right(80)))
    ]
    (entry,) = known[0].result.entries

    def said(**changes: object) -> str:
        then: SuiteResult = known[1].result
        own = {k: v for k, v in changes.items() if k in vars(entry)}
        whole = {k: v for k, v in changes.items() if k not in own}
        changed = replace(then, entries=(replace(then.entries[0], **own),), **whole)  # type: ignore[arg-type]
        return doubt(entry, [known[0], Night(known[1].directory, changed)], 2)

    (metric,) = entry.metrics
    assert said() == ""
    assert "on 2026-11-01 22:10, its verdict was INCONCLUSIVE" in said(verdict="INCONCLUSIVE")
    assert "it did not run" in said(missing=True)
    assert "it did not run" in said(name="other")
    assert "only a part of the questions" in said(metrics=(replace(metric, n=5, whole=100),))
    for rule in ("replay", "numerics"):
        compared = (replace(metric, rule=rule), metric)
        assert "replay and numerics compare with the present" in said(metrics=compared)
    assert "the evaluation differed" in said(evaluation_fingerprint="other")
    assert "the engine's settings or a version differed" in said(engine_fingerprint="other")
    assert "the engine's settings or a version differed" in said(versions={"vllm": ("0.1",)})
    assert doubt(entry, known, 3) == "only 2 nights so far, 3 needed"


def test_earlier_nights_are_the_suite_s_own(suite: Suite) -> None:
    first, second = suite(1, right(80)), suite(2, right(80))
    found = result.read(second)
    (only,) = nights.earlier(second, found.name, found.started)
    assert only.directory == first.resolve()


# The command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--auto", "--force"], "--auto: never with --force or --noise"),
        (["--auto", "--nights", "0"], "--nights 0: at least 1 night is needed"),
        (["--auto"], "not a finished suite (suite.json is missing)"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote.main([str(tmp_path), *arguments]) == 1
    assert said in capsys.readouterr().err
