"""python -m runner.history: series, the first bad night, and its page."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.config.schema import RunConfig
from runner.environment import Environment
from runner.history import answers, page, reading
from runner.history.__main__ import main
from runner.history.answers import commands
from runner.history.directories import read_directories
from runner.history.judging import decided, judge
from runner.history.result import Flips, History, Kind, Series, State
from runner.history.runs import Metric, Run, is_probe, read_stored
from runner.history.series import collect
from runner.history.summary import summary as sentence
from runner.outcome import Outcome
from runner.planning import Facts, make_plan
from runner.rundir import RunDirectory, write_json
from runner.tracking import records, sender
from runner.tracking.metrics import metric_name
from runner.tracking.settings import axes, settings
from runner.tracking.stored import StoredRun
from runner.verdict import Verdict

DAY = 86_400.0
# 2026-11-01.
START = 1_793_491_200.0
GOOD, BAD = 0.904, 0.861


def night(number: int, value: float | None = GOOD, **other: object) -> Run:
    metric = {"canary/acc": Metric(value, n=600, judged=True, main=True)} if value else {}
    plain = Run(
        name=f"/nights/{number}",
        directory=None,
        started=START + (number - 1) * DAY,
        verdict="PASSED" if value else "ERROR",
        model="canary_vl",
        tasks="canary",
        settings={"tp": "1"},
        versions={"vllm": "0.31"},
        metrics=metric,
        partial=frozenset(),
    )
    return replace(plain, **other)  # type: ignore[arg-type]


def nights(values: Sequence[float | None], **other: object) -> list[Run]:
    return [night(number, value, **other) for number, value in enumerate(values, start=1)]


def judged(runs: Sequence[Run], flips: Flips | None = None) -> Series:
    (collected,) = collect(runs)
    return decided(judge(collected), lambda good, bad, series: flips)


def test_the_first_bad_night_is_named_with_what_changed() -> None:
    runs = nights([GOOD] * 19 + [BAD] * 11)
    runs[19:] = [replace(each, versions={"vllm": "0.32"}) for each in runs[19:]]
    found = judged(runs)
    assert found.state is State.WORSE
    assert (found.good, found.bad, found.between) == (19, 20, (20, 20))
    assert found.headline.startswith(
        "Dropped on 2026-11-20 (night 20 of 30): 0.9040 → 0.8610 (−4.3 points), p ≤ 0.0001"
    )
    assert "Changed between nights 19 and 20: vllm 0.31 → 0.32" in found.findings
    assert commands(found, "sqlite:///x.db") == (
        "python -m runner.compare /nights/19 /nights/20 --uri sqlite:///x.db",
        "python -m runner.why /nights/19 /nights/20 --uri sqlite:///x.db",
    )


def test_nights_without_a_result_are_shown_and_not_counted() -> None:
    found = judged(nights([GOOD] * 10 + [None, *[GOOD] * 9] + [BAD] * 5))
    assert (found.good, found.bad) == (20, 21)
    assert any("night 11 (ERROR)" in each for each in found.findings)


def test_a_run_that_stopped_early_is_not_counted() -> None:
    runs = nights([GOOD] * 12)
    runs[-1] = night(12, BAD, partial=frozenset({"canary"}))
    assert judged(runs).state is State.NO_DROP


def test_one_bad_night_is_to_be_checked_and_says_what_would_decide() -> None:
    found = judged(nights([GOOD] * 29 + [BAD]))
    assert found.state is State.CHECK
    assert found.bad == 30
    assert any(
        "1 low night of 30 may be chance; 1 more would be significant" in each
        for each in found.findings
    )


def test_changed_answers_decide_about_one_night() -> None:
    few = Flips(pairs=600, changed=30, worse=26, better=0, p=1e-8, p_adjusted=1.0)
    found = judged(nights([GOOD] * 29 + [BAD]), few)
    assert found.state is State.WORSE
    assert found.flips is not None and found.flips.p_adjusted == pytest.approx(29e-8)
    many = replace(few, better=20, p=0.01)
    assert judged(nights([GOOD] * 29 + [BAD]), many).state is State.CHECK


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_bad_nights_at_the_end_do_not_hide_each_other(bad: int) -> None:
    found = judged(nights([0.9] * 7 + [0.5] * bad))
    assert found.state in (State.CHECK, State.WORSE)
    assert found.bad == 8


@pytest.mark.parametrize("good", [5, 10])
def test_after_a_recovered_drop_the_last_night_is_still_checked(good: int) -> None:
    recovered = [0.9] * 15 + [0.85] * 5 + [0.9] * good
    assert judged(nights(recovered)).state is State.RECOVERED
    found = judged(nights([*recovered, 0.01]))
    assert (found.state, found.bad) == (State.CHECK, len(recovered) + 1)


def test_a_short_level_is_judged_with_the_earlier_one_that_is_alike() -> None:
    recovered = [0.9] * 15 + [0.8] * 8 + [0.9] * 4
    assert judged(nights(recovered)).state is State.RECOVERED
    found = judged(nights([*recovered, 0.85]))
    assert (found.state, found.bad) == (State.CHECK, 28)
    found = judged(nights([*recovered, 0.85, 0.85]))
    assert (found.state, found.bad) == (State.WORSE, 28)
    assert found.headline.startswith("Dropped on 2026-11-28")


def test_half_a_recovery_is_none() -> None:
    found = judged(nights([0.9] * 10 + [0.8] * 10 + [0.7] * 10 + [0.8] * 10))
    assert (found.state, found.bad) == (State.WORSE, 11)
    noise = [0.004, -0.003, 0.001, -0.004, 0.002]
    low = [level + each for level in (0.9, 0.8, 0.895) for each in noise * 4]
    assert judged(nights(low)).state is State.WORSE


def test_an_improvement_that_ends_is_no_certain_drop() -> None:
    lost = judged(nights([0.8] * 15 + [0.9] * 4 + [0.01]))
    assert (lost.state, lost.bad) == (State.CHECK, 20)
    assert lost.p is not None and lost.p > 0.1
    longer = judged(nights([0.9] * 10 + [0.92] * 5 + [0.9] * 10))
    assert longer.state is State.CHECK
    assert longer.headline.startswith("An improvement ended on 2026-11-16 (night 16 of 25)")
    assert "The values are back at the level before the rise on night 11" in longer.findings
    assert "It ends the rise on night 16, and may be chance" in lost.findings
    assert judged(nights([0.8] * 15 + [0.9] * 4 + [0.8])).state is State.NO_DROP


@pytest.mark.parametrize(("failed", "said"), [(1, "night has"), (10, "10 nights have")])
def test_nights_that_only_fail_are_no_good_nights(failed: int, said: str) -> None:
    found = judged(nights([GOOD] * 20 + [None] * failed))
    assert (found.state, found.bad) == (State.CHECK, None)
    assert found.headline == (
        f"The latest {said} no result (ERROR). Before: 0.9040 in all 20 nights"
    )
    assert judged(nights([GOOD] * 20 + [None] * failed + [GOOD])).state is State.NO_DROP


def test_too_few_nights_say_how_many_are_needed() -> None:
    found = judged(nights([GOOD] * 2 + [BAD] * 2))
    assert found.state is State.TOO_FEW
    assert "at least 9 are needed" in found.headline


def test_recovered_and_declining() -> None:
    assert judged(nights([GOOD] * 15 + [BAD] * 8 + [GOOD] * 8)).state is State.RECOVERED
    assert judged(nights([0.9 - 0.002 * n for n in range(30)])).state is State.DECLINING


def test_a_rise_is_not_bad() -> None:
    assert judged(nights([BAD] * 12 + [GOOD] * 12)).state is State.NO_DROP


def test_settings_are_not_mixed_and_versions_are() -> None:
    runs = [*nights([GOOD] * 10), *nights([BAD] * 10, settings={"tp": "2"})]
    one, other = collect(runs)
    assert (one.settings, other.settings) == ({"tp": "1"}, {"tp": "2"})
    assert len(one.nights) == len(other.nights) == 10


def test_of_an_older_run_the_error_gives_the_interval() -> None:
    metrics = {"gsm8k/acc": 0.5, "gsm8k/acc_stderr": 0.1, "gsm8k/degenerate": 0.0, "other/acc": 1.0}
    found = read_stored(
        StoredRun("a" * 32, 0, metrics, {"model": "m", "task": "gsm8k", "limit": "None"}, {})
    )
    assert found.metrics["gsm8k/acc"].interval == pytest.approx((0.304, 0.696))
    assert found.metrics["gsm8k/acc"].main and not found.metrics["other/acc"].main
    assert not found.metrics["gsm8k/degenerate"].higher_is_better
    assert found.settings == {}


Finish = Callable[[str, int, float], RunDirectory]


@pytest.fixture
def finish(
    tmp_path: Path,
    config: RunConfig,
    facts: Facts,
    environment: Environment,
    outcome: Outcome,
    verdict: Verdict,
) -> Finish:
    """Leave the directory of a night's run, which had a value."""
    config.tracking.enabled = True
    config.tracking.uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def finished(name: str, number: int, value: float) -> RunDirectory:
        files = RunDirectory(tmp_path / "runs" / name)
        files.claim()
        plan = make_plan(config, facts)
        write_json(files.plan, plan)
        write_json(files.environment, environment)
        begun = records.begin(config, plan, environment, int(1000 * (START + number * DAY)))
        write_json(files.tracking, begun)
        write_json(files.outcome, outcome)
        judged = replace(verdict.metrics[0], value=value)
        write_json(files.verdict, replace(verdict, metrics=(judged, *verdict.metrics[1:])))
        return files

    return finished


def thirty(finish: Finish) -> list[RunDirectory]:
    return [
        finish(f"night-{number}", number, GOOD if number < 20 else BAD) for number in range(1, 31)
    ]


def summary(output: Path) -> list[tuple[str, int | None, int]]:
    found = json.loads((output / "history.json").read_text())
    return [
        (each["metric"], each["bad"], len(each["nights"]))
        for each in found["series"]
        if each["kind"] == "accuracy"
    ]


def test_run_directories_name_the_night(finish: Finish, tmp_path: Path) -> None:
    thirty(finish)
    output = tmp_path / "out"
    given = ["--runs", str(tmp_path / "runs"), "--output", str(output)]
    assert main(given) == 3
    ((metric, bad, count), *_) = summary(output)
    assert (bad, count) == (20, 30)
    text = (output / "history.md").read_text()
    assert "(night 20 of 30)" in text
    assert f"python -m runner.compare {tmp_path}/runs/night-19 {tmp_path}/runs/night-20" in text
    assert main([*given, "--metric", metric, "--since", "2026-11-22"]) == 0
    assert [each[2] for each in summary(output)] == [10]


@pytest.mark.slow
def test_a_store_names_the_night_and_both_ways_of_reading_agree(
    finish: Finish, tmp_path: Path
) -> None:
    from runner.channel.sender import ListRuns
    from runner.tracking import stored
    from runner.tracking.listed import list_runs

    for files in thirty(finish):
        sender.send_run(files.path)
    file = tmp_path / "mlflow.db"
    output = tmp_path / "out"
    assert main(["--uri", f"sqlite:///{file}", "--output", str(output)]) == 3
    ((_, bad, count), *_) = summary(output)
    assert (bad, count) == (20, 30)
    token, *lines = list_runs(ListRuns(f"sqlite:///{file}", int(1000 * (START + 5 * DAY))))
    assert token == ""
    asked = {each.run_id: each for each in (StoredRun(**json.loads(line)) for line in lines)}
    local = {each.run_id: each for each in stored._local(file, int(1000 * (START + 5 * DAY)))}
    assert asked == local
    assert len(asked) == 26


def test_mistakes_are_one_message(
    finish: Finish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thirty(finish)
    runs = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    for words, said in (
        ([*runs, "other/task"], "model/task other/task: no such series; there are fixed/"),
        ([*runs, "--metric", "f1"], "--metric f1: no such series; there are "),
        ([*runs, "--since", "2030-01-01"], "no runs since that date"),
        ([*runs, "--since", "monday"], "--since: monday: not a date such as 2026-11-01"),
        (["--runs", str(tmp_path / "nothing")], "no such directory"),
        (["--uri", f"sqlite:///{tmp_path}/none.db"], "there is no MLflow store"),
    ):
        assert main(words) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_cannot_be_read_is_left_out_and_named(finish: Finish, tmp_path: Path) -> None:
    thirty(finish)[3].verdict.write_text("{")
    output = tmp_path / "out"
    main(["--runs", str(tmp_path / "runs"), "--output", str(output)])
    assert summary(output)[0][2] == 29
    assert "night-4" in (output / "history.html").read_text()


def test_a_page_escapes_what_runs_contain(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\u202e"
    runs = nights([GOOD] * 10 + [BAD] * 10, model=evil, settings={evil: evil})
    runs[12] = replace(runs[12], versions={f"vllm{evil}": evil}, name=evil)
    series = judged(runs)
    history = History(evil, 20, "2026-11-01", "2026-11-20", 0.01, (series,), (evil,))
    page.write(tmp_path, history, evil)
    for name in ("history.html", "history.md"):
        # Code spans of Markdown need no escapes.
        text = re.sub(r"`[^`]*`", "", (tmp_path / name).read_text())
        assert "<script>" not in text and "\u202e" not in text
    shown = html.unescape((tmp_path / "history.html").read_text())
    assert "alert(1)" in shown
    assert not re.search(r"(src|href)=\"(?!#)", (tmp_path / "history.html").read_text())


def test_answers_are_compared_first_where_they_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(answers, "_compared", lambda good, bad: asked.append(bad))
    local = [
        judge(each)
        for name, last in (("a", [BAD] * 10), ("b", [BAD] * 10), ("z", [BAD]))
        for each in collect(
            nights([GOOD] * 20 + last, model=name, directory=Path("/nights"), name=f"/{name}")
        )
    ]
    # Nights that are elsewhere take none of the places.
    away = [judge(each) for each in collect(nights([GOOD] * 20 + [BAD] * 10, model="c"))]
    monkeypatch.setattr(answers, "COMPARED", 2)
    both = reading._decided([*away, *local, *local])
    assert asked == ["/z", "/a"]
    assert [each.model for each in both] == [*"cabzabz"]


def test_changed_answers_of_all_tasks_are_counted_of_all_pairs() -> None:
    row = SimpleNamespace(
        task="sub", metric="acc", filter="none", n=100, worse=15, better=4, p=0.01
    )
    found = SimpleNamespace(scores=[row], pairs=600, same=522)
    series = replace(judged(nights([GOOD] * 9)), task="sub")
    flips = answers._flips(found, series)  # type: ignore[arg-type]
    assert flips == Flips(600, 78, worse=15, better=4, p=0.01, p_adjusted=0.01)


def test_no_credentials_are_printed(
    finish: Finish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = judged(nights([GOOD] * 19 + [BAD] * 11))
    assert all("hunter22" not in each for each in commands(found, "http://me:hunter22@host:5000"))
    thirty(finish)
    output = tmp_path / "out"
    uri = ["--uri", "http://me:hunter22hunter@host:5000"]
    main(["--runs", str(tmp_path / "runs"), "--output", str(output), *uri])
    for name in ("history.html", "history.md", "history.json"):
        assert "hunter22" not in (output / name).read_text()
    assert "hunter22" not in capsys.readouterr().out


def test_without_accuracy_nothing_is_inconclusive(
    finish: Finish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thirty(finish)
    given = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert main([*given, "--metric", "throughput"]) == 0
    assert "No series of accuracy was asked for" in capsys.readouterr().out


def test_the_summary_tells_steady_series_from_short_ones() -> None:
    long, short = judged(nights([GOOD] * 20)), judged(nights([GOOD] * 5))
    history = History("x", 25, "2026-11-01", "2026-11-20", 0.01, (long, short), ())
    assert sentence(history) == ("No drop of accuracy in 1 of 2 series; 1 has too few nights")
    worse = judged(nights([GOOD] * 19 + [BAD] * 11))
    assert sentence(replace(history, series=(worse, long))).startswith(
        "canary_vl/canary dropped on 2026-11-20 (night 20 of 30): 0.9040 → 0.8610 (−4.3 points), p"
    )


def test_each_task_shows_its_accuracy() -> None:
    runs = [
        replace(
            each,
            tasks="canary+other",
            metrics={
                **each.metrics,
                "canary/logprob_shift/median": Metric(0.001, judged=True, main=True),
                "canary/f1": Metric(0.8, main=True),
                "other/acc": Metric(0.7, main=True),
            },
        )
        for each in nights([GOOD] * 10)
    ]
    assert [(each.task, each.metric) for each in collect(runs)] == [
        ("canary", "acc"),
        ("canary", "logprob_shift/median"),
        ("other", "acc"),
    ]
    unjudged = [
        replace(
            each,
            metrics={
                **each.metrics,
                "canary/acc": Metric(GOOD, main=True),
                "canary/logprob_shift/median": Metric(0.001, judged=True, main=True),
            },
        )
        for each in nights([GOOD] * 10)
    ]
    assert {each.metric for each in collect(unjudged)} == {"acc", "logprob_shift/median"}


DETAILS = {"t/acc": {"n": 9, "judged": True, "higher_is_better": True}}


def stored(number: int, value: float | None, tags: dict[str, str] | None = None) -> StoredRun:
    metrics = {"t/acc": value} if value is not None else {}
    return StoredRun(
        f"{number:032x}",
        int(1000 * (START + number * DAY)),
        metrics,
        {"model": "m", "task": "t"},
        {"verdict": "PASSED", "details.t": json.dumps(DETAILS), **(tags or {})},
    )


@pytest.mark.parametrize("value", [None, math.nan, math.inf, sys.float_info.max])
def test_a_value_that_is_no_number_is_a_night_without_a_result(value: float | None) -> None:
    runs = [stored(number, GOOD) for number in range(12)]
    found = judged(
        [read_stored(each) for each in [*runs, stored(12, value, {"verdict": "FAILED"})]]
    )
    assert (found.state, len(found.nights)) == (State.CHECK, 13)
    assert found.headline.startswith("The latest night has no result (FAILED)")
    later = [read_stored(each) for each in [*runs, stored(12, value), stored(13, GOOD)]]
    assert judged(later).state is State.NO_DROP


def test_of_subtasks_the_direction_is_that_of_the_metric() -> None:
    details = {"t/ppl": {"higher_is_better": False}, "t/acc": {"higher_is_better": True}}
    values = {"t/ppl": 9.0, "sub/ppl": 9.0, "sub/acc": 0.5, "sub/calibration/strict": 0.1}
    tags = {"details.t": json.dumps(details), "lower_is_better": "calibration/strict"}
    run = read_stored(StoredRun("a", 0, values, {"model": "m", "task": "t"}, tags))
    better = {name: metric.higher_is_better for name, metric in run.metrics.items()}
    assert better == {
        "t/ppl": False,
        "sub/ppl": False,
        "sub/acc": True,
        "sub/calibration/strict": False,
    }


def test_smaller_is_better_is_uploaded_of_subtasks_too(outcome: Outcome) -> None:
    metric = replace(outcome.tasks[0].metrics[0], task="sub", metric="ppl", higher_is_better=False)
    task = replace(outcome.tasks[0], metrics=[*outcome.tasks[0].metrics, metric])
    found = replace(outcome, tasks=[task])
    assert records.task_tags(found, None)["lower_is_better"] == metric_name(metric)[4:]


def test_searches_and_parts_of_a_run_are_no_nights() -> None:
    assert is_probe(stored(0, GOOD, {"run_directory": "/out/12-why/probes/a-1"}))
    assert not is_probe(stored(0, GOOD, {"run_directory": "/out/12/0"}))
    chosen = {"samples.t": "9 of 90 (verdict.replay.questions)"}
    assert read_stored(stored(0, GOOD, chosen)).partial == {"t"}
    replayed = replace(stored(0, GOOD), params={"model": "m", "task": "t", "rule": "replay"})
    paired = replace(stored(0, GOOD), params={"model": "m", "task": "t", "rule": "paired"})
    assert read_stored(replayed).settings == {"rule": "replay"}
    assert read_stored(paired).settings == {}


def test_prompts_that_change_behind_a_failed_night_are_named() -> None:
    runs = nights([None] + [GOOD] * 10 + [None] + [BAD] * 10)
    runs = [
        replace(
            each, versions={"prompts of canary": "a" if number < 12 else "b"} if each.final else {}
        )
        for number, each in enumerate(runs)
    ]
    found = judged(runs)
    assert (found.good, found.bad) == (11, 13)
    assert "Changed between nights 11 and 13: prompts of canary a → b" in found.findings
    assert [each.number for each in found.nights if each.changed] == [13]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda c: setattr(c.model, "enable_thinking", False), "enable_thinking"),
        (lambda c: c.model.chat_template_args.update(a=1), "chat_template_args.a"),
        (lambda c: setattr(c.model, "think_end_token", "</t>"), "think_end_token"),
        (lambda c: setattr(c.task, "system_instruction", "Be brief"), "system_instruction"),
        (lambda c: setattr(c.engine, "seed", 7), "engine_seed"),
        (lambda c: setattr(c.sweep, "point", "tp=2 pretrained=/a"), "sweep.pretrained"),
        (lambda c: c.engine.extra.update(block_size=16), "extra.block_size"),
    ],
)
def test_both_readers_tell_settings_apart(
    config: RunConfig,
    facts: Facts,
    environment: Environment,
    change: Callable[[RunConfig], None],
    shown: str,
) -> None:
    def read() -> tuple[Run, dict[str, str]]:
        plan = make_plan(config, facts)
        begun = records.begin(config, plan, environment, 0)
        swept = axes(plan, config.sweep.point or "")
        run = read_stored(StoredRun("a" * 32, 0, {"gsm8k/acc": 0.5}, begun.params, begun.tags))
        return run, settings(plan, swept)

    before, plain = read()
    change(config)
    after, changed = read()
    assert plain != changed
    assert before.settings["settings_digest"] != after.settings["settings_digest"]
    labels = [each.settings for each in collect([before, after], names=["acc"])]
    assert shown in labels[0].keys() | labels[1].keys()
    assert not any("settings_digest" in each for each in labels)


def test_the_seeds_of_task_and_engine_are_two_settings(config: RunConfig, facts: Facts) -> None:
    config.task.seed, config.engine.seed = 7, 8
    found = settings(make_plan(config, facts), {})
    assert (found["task.seed"], found["seed"]) == ("7", "8")


def test_a_run_and_its_copy_are_one_night(finish: Finish, tmp_path: Path) -> None:
    thirty(finish)
    shutil.copytree(tmp_path / "runs" / "night-3", tmp_path / "runs" / "copy")
    finish("probes/a-1", 31, GOOD)
    again = str(tmp_path / "runs" / "night-5")
    runs, problems = read_directories([tmp_path / "runs", Path(again)])
    assert (len(runs), problems) == (30, [])


@pytest.mark.parametrize("tracked", [True, False])
def test_the_points_of_a_sweep_over_weights_are_series(
    finish: Finish, config: RunConfig, tmp_path: Path, tracked: bool
) -> None:
    for point in ("a", "b"):
        config.model.pretrained = f"/weights/{point}"
        config.sweep.point = f"pretrained={config.model.pretrained}"
        for number in range(3):
            files = finish(f"{number}/{point}", number, GOOD)
            if not tracked:
                files.tracking.unlink()
                files.config.write_text(f"sweep:\n  id: s\n  point: {config.sweep.point}\n")
    runs, problems = read_directories([tmp_path / "runs"])
    assert not problems
    assert {each.settings["sweep.pretrained"] for each in collect(runs)} == {
        "/weights/a",
        "/weights/b",
    }


def test_trends_have_their_direction() -> None:
    runs = [
        replace(
            each,
            metrics={
                **each.metrics,
                "perf/start_engine_s": Metric(60.0 + 40 * (number > 15), higher_is_better=False),
                "perf/output_tokens_per_s": Metric(900.0 + 300 * (number > 15)),
            },
        )
        for number, each in enumerate(nights([GOOD] * 30))
    ]
    states = {each.kind: judge(each).state for each in collect(runs)}
    assert states == {
        Kind.ACCURACY: State.NO_DROP,
        Kind.START: State.WORSE,
        Kind.THROUGHPUT: State.NO_DROP,
    }
    (only,) = collect(runs, names=["throughput"])
    assert only.kind is Kind.THROUGHPUT
