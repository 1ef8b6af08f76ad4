"""What python -m runner.why says: findings, pages, costs, and one message for each mistake."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner.config import loading
from runner.config.composed import Composed
from runner.config.composition import compose
from runner.config.recorded import Recorded
from runner.environment import Environment
from runner.outcome import Outcome
from runner.outcome import State as Ended
from runner.plan import Plan, ReplayPlan
from runner.rundir import RunDirectory, read_json, write_json
from runner.stats.excess import Excess
from runner.why import __main__, findings, page, reproduction
from runner.why.cost import Cost, cost
from runner.why.ddmin import State
from runner.why.evidence import Side
from runner.why.found import Cause, Probe
from runner.why.result import Command, Stack, Why
from runner.why.switches import Change, Switch
from runner.why.switches import Cost as Restart
from tests.compared import rows, write_run
from tests.html import Page

HOSTILE = "</pre><script>alert('x')</script>|`$(id)`&\u202e"
EXCESS = Excess(40.0, 30.0, 50.0, 1e-9, 3.0, None)
WITHIN = Excess(1.1, 1.0, 1.5, 0.9, 3.0, None)


def probe(name: str, state: State, *switches: int, **fields: Any) -> Probe:
    where = f"/home/somebody/why/probes/{name}"
    return Probe(
        name,
        f"settings {switches}",
        switches,
        state,
        where,
        f"cd /home/somebody && run {name}",
        **{"shift": 0.04, **fields},
    )


GOOD = probe("good", State.GOOD, shift=0.0)
NOISE = probe("noise", State.GOOD, shift=1e-8)
WHOLE = probe("bad", State.BAD, 0, 1, 2, excess=EXCESS)
ONE = probe("1-1", State.BAD, 0, side=Side(State.BAD, 58, 60, 1e-12, 0.03))
PAIR = probe("1-1+2", State.BAD, 0, 1, side=Side(State.BAD, 58, 60, 1e-12, 0.03))
OTHER = probe("2-3", State.BAD, 2, side=Side(State.BAD, 40, 44, 1e-7, 0.01))
LOST = replace(probe("1-2", State.UNRESOLVED, 1, shift=None), reason="engine.extra: rejected")

WHY = Why(
    good="outputs/good",
    bad="outputs/bad",
    switches=(("engine.extra.a: 1 → 2",), ("tp: 1 → 2", "ep: false → true"), ("c: 0 → 1",)),
    asked=(),
    environment=(),
    probes=(GOOD, NOISE, WHOLE, ONE),
    causes=(Cause((0,), ONE),),
    rest=State.GOOD,
    noise=("engine.window=1",),
    notes=(),
    starts=5,
)


def told(**changes: Any) -> tuple[str, str]:
    """The headline, and the findings as one text."""
    found = replace(WHY, **changes)
    return findings.headline(found), " ".join(findings.findings(found))


def test_a_single_cause() -> None:
    headline, said = told()
    assert headline == "engine.extra.a: 1 → 2 makes the difference"
    assert (
        "40 × the noise of correct stacks (mean squares), significantly more than 3 × (p = 1e-09)"
        in said
    )
    assert "With engine.extra.a: 1 → 2 alone, 58 of 60 questions" in said
    assert "other 2 settings together do not differ beyond noise" in said


def test_an_interaction_and_one_that_was_not_tested_whole() -> None:
    pair = ("engine.extra.a: 1 → 2 and tp: 1 → 2 + ep: false → true", (0, 1))
    headline, _ = told(causes=(Cause(pair[1], PAIR),))
    assert headline == f"{pair[0]} make the difference, but only together"
    headline, said = told(causes=(Cause(pair[1], PAIR, minimal=False),))
    assert headline == f"{pair[0]} make the difference (a smaller set may be enough)"
    assert f"Whether all of {pair[0]} are needed could not be told" in said


def test_two_causes() -> None:
    headline, said = told(causes=(Cause((0,), ONE), Cause((2,), OTHER)))
    assert headline == "2 causes: engine.extra.a: 1 → 2; c: 0 → 1"
    assert "Without these causes, the bad run's other setting does" in said


@pytest.mark.parametrize(
    ("rest", "words"),
    [(State.BAD, "there are more causes"), (State.UNRESOLVED, "may be more causes")],
)
def test_more_causes_are_said_to_remain(rest: State, words: str) -> None:
    _, said = told(rest=rest)
    assert words in said and "do not differ beyond noise" not in said


def test_nothing_beyond_noise() -> None:
    whole = replace(WHOLE, state=State.GOOD, excess=WITHIN)
    headline, said = told(causes=(), probes=(GOOD, NOISE, whole), asked=("task.seed: 0 → 1",))
    assert headline.startswith("Nothing departs beyond noise")
    assert "less than 3 × (95 %)" in said
    assert "other questions" in said and "task.seed: 0 → 1" in said


def test_a_difference_without_a_smaller_set() -> None:
    headline, said = told(causes=(), probes=(GOOD, NOISE, WHOLE), notes=("only 3 questions",))
    assert headline == "The settings make a difference, but no smaller set of them could be found"
    assert "Only 3 questions." in said


def test_what_could_not_be_measured() -> None:
    whole = replace(WHOLE, state=State.UNRESOLVED, shift=None, excess=None, reason="out of memory")
    headline, said = told(causes=(), rest=State.UNRESOLVED, probes=(GOOD, NOISE, whole))
    assert headline == "Inconclusive: the settings may or may not make a difference"
    assert "With all settings of the bad run: out of memory." in said
    assert told(causes=(), rest=None, probes=(GOOD,))[0] == headline


def test_another_machine_is_named() -> None:
    differ = {"environment": ("vllm: 1 → 2",)}
    assert "all probes ran on this machine: vllm: 1 → 2" in told(**differ)[1]
    nodes = {"nodes": ("host-a", "host-b")}
    assert "ran on nodes host-a and host-b of the cluster: vllm" in told(**differ, **nodes)[1]
    whole = {"probes": (replace(WHOLE, state=State.GOOD),), "causes": ()}
    assert "on node host-a of the cluster, do not explain" in told(**whole, nodes=("host-a",))[1]


def test_sizes() -> None:
    assert findings.size(WHOLE) == "0.2"
    assert findings.size(NOISE) == "< 0.0001"
    assert findings.size(LOST) == ""
    assert findings.size(replace(WHOLE, shift=float("inf"))) == "∞"


def written(tmp_path: Path, **changes: Any) -> dict[str, str]:
    why = replace(WHY, **changes)
    page.write(tmp_path, why, f"python -m runner.why {changes.get('bad', 'bad')}")
    return {
        each.suffix: each.read_text(encoding="utf-8") for each in sorted(tmp_path.glob("why.*"))
    }


HOSTILES: Mapping[str, Any] = {
    "bad": HOSTILE,
    "switches": ((f"engine.extra.a: {HOSTILE} → 2",), ("tp: 1 → 2",), ("c: 0 → 1",)),
    "asked": (f"task.system_instruction: null → {HOSTILE}",),
    "environment": (f"vllm: 1 → {HOSTILE}",),
    "nodes": (HOSTILE,),
    "notes": (HOSTILE,),
    "probes": (GOOD, NOISE, WHOLE, ONE, replace(LOST, reason=HOSTILE)),
    "commands": (Command(f"with {HOSTILE}", f"run {HOSTILE}"),),
    "stack": Stack("m", "t", "h", {"vllm": HOSTILE}, (f"model={HOSTILE}",)),
}


@pytest.mark.parametrize("changes", [{}, HOSTILES, {"causes": (), "probes": (GOOD,)}])
def test_the_page_is_whole_and_loads_nothing(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    html = written(tmp_path, **changes)[".html"]
    read = Page(html)
    assert read.open == []
    assert "script" not in read.tags
    assert all(each.startswith("#") for each in read.loads)
    assert "default-src 'none'" in html
    assert "\u202e" not in html
    targets = {each.removeprefix("#") for each in read.loads}
    assert targets <= set(read.ids)


def test_markdown(tmp_path: Path) -> None:
    text = written(tmp_path)[".md"]
    assert text.startswith("# engine.extra.a: 1 → 2 makes the difference\n")
    assert "| 1 | engine.extra.a: 1 → 2 | cause |" in text
    assert "| 2 | tp: 1 → 2 + ep: false → true | within noise |" in text
    assert "| 4 | 1 | differs | 0.2 |  | 58 of 60 questions as in the bad run (p = 1e-12) |" in text


def test_hostile_values_keep_the_tables_of_the_markdown(tmp_path: Path) -> None:
    text = written(tmp_path, **HOSTILES)[".md"]
    rows_ = [each for each in text.splitlines() if each.startswith("| ")]
    assert {each.replace("\\|", "").count("|") for each in rows_} == {4, 7}


def test_json_has_the_result(tmp_path: Path) -> None:
    why = replace(WHY, **HOSTILES)
    page.write(tmp_path, why, "x")
    assert read_json(tmp_path / "why.json", Why) == why


def test_what_was_not_tested_is_listed(tmp_path: Path) -> None:
    text = written(tmp_path, probes=(*WHY.probes, LOST))
    assert "## Not tested" in text[".md"] and "settings (1,): engine.extra: rejected" in text[".md"]
    assert "engine.extra: rejected" in text[".html"]
    assert "Not tested" not in written(tmp_path)[".md"]


def test_the_text_for_an_issue_has_no_paths() -> None:
    paths = (("model.pretrained: /home/somebody/w/a → /home/somebody/w/b",),)
    stack = Stack("m", "t", "8 × chip", {"vllm": "0.23.0"}, ("task.limit=10",))
    text = reproduction.issue(replace(WHY, switches=paths, stack=stack))
    assert "somebody" not in text
    assert "model.pretrained: a → b makes the difference" in text
    listed = (("x: Qwen/Qwen3 → ['/home/somebody/a',~/somebody/b,{c: /home/somebody/c}]",),)
    text = reproduction.issue(replace(WHY, switches=listed, stack=stack))
    assert "x: Qwen/Qwen3 → ['c}] makes the difference" in text  # no list of Python: least is kept
    assert "vllm 0.23.0" in text and "task.limit=10" in text
    assert reproduction.issue(replace(WHY, causes=(), stack=stack)) == ""


def published(*lines: str, words: tuple[str, ...] = ()) -> str:
    """The text for an issue about the cause with these changes."""
    asked = reproduction._asked(Recorded(OmegaConf.create(), ("python", "-m", "runner", *words)))
    stack = Stack("m", "t", "8 × chip", {"vllm": "0.23.0"}, asked)
    return reproduction.issue(replace(WHY, switches=(lines,), stack=stack))


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ("['/home/alice/lora'] → not set", '["lora"] → not set'),
        ('{"p":"/home/alice/c"} → null', '{"p": "c"} → null'),
        ("file:///home/alice/m → ~/priv/x", "m → x"),
        ("../priv/x → ./y", "x → y"),
        ("/home/alice smith/x → ~alice", "x → ~"),
        ("--a=/home/alice smith/x --b=/home/alice/y → 1", "--a=y → 1"),
        ("/home/alice/v1/python → /home/alice/v2/python", "v1/python → v2/python"),
        ("/o/v1/bin/python → /o/v2/bin/python", "v1/…/python → v2/…/python"),
        ("/home/alice/python → /home/alicia/python", "python → another python"),
        ("/home/alice → /Users/alice/", "~ → another ~"),
        ("C:\\Users\\alice\\w → 1", "w → 1"),
        ("{'/home/alice/k': [1, '/home/alice/v']} → 1", '{"k": [1, "v"]} → 1'),
        ("[/home/alice, x → 1", "x → 1"),
        ("Qwen/Qwen3-8B → Qwen/Qwen3-4B", "Qwen/Qwen3-8B → Qwen/Qwen3-4B"),
        ("1.5 → auto", "1.5 → auto"),
    ],
)
def test_values_without_private_names(values: str, shown: str) -> None:
    text = published(f"engine.extra.a: {values}")
    assert "alice" not in text and "priv" not in text
    if not values.startswith("[/"):
        assert f"engine.extra.a: {shown} makes" in text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("VLLM_USE_V1: 0 → 1", "VLLM_USE_V1: 0 → 1"),
        ("HCCL_DETERMINISTIC: not set → true", "HCCL_DETERMINISTIC: not set → true"),
        ("VLLM_NAME: alice → alicia", "VLLM_NAME: … → another …"),
        ("OURS: 4711 → not set", "OURS: … → not set"),
        ("LD_PRELOAD: /home/alice/x.so → not set", "LD_PRELOAD: … → not set"),
        ("VLLM_PORT: 8000 → 8001", "VLLM_PORT: … → another …"),
    ],
)
def test_names_of_variables_and_values_of_switches(line: str, shown: str) -> None:
    text = published(f"engine.env.{line}")
    assert f"engine.env.{shown} makes" in text and "ali" not in text


def test_settings_of_both_runs() -> None:
    cause = "engine.dtype: float32 → bfloat16"
    assert "both runs: the defaults" in published(cause)
    words = ("engine=cpu", "engine.dtype=float32", "output_dir=/o")
    assert "both runs: engine=cpu\n" in published(cause, words=words)
    assert "both runs: no others were set\n" in published(cause, words=("engine.dtype=float32",))
    left_out = "(overrides with paths left out)\n"
    for word in ("model.pretrained=/home/alice/w", "task.data_dir='~/alice'", "--config-dir=alice"):
        text = published(cause, words=(word,))
        assert f"both runs: {left_out}" in text and "alice" not in text
    text = published(cause, words=("engine.env.OURS=alice", "engine.env.VLLM_USE_V1=1"))
    assert "both runs: engine.env.OURS=… engine.env.VLLM_USE_V1=1\n" in text
    text = published(cause, words=("engine.env={A: alice}", "engine.extra={p: /home/alice/x}"))
    assert "alice" not in text


NAMES = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=0, max_size=4
)


@settings(max_examples=150, deadline=None)
@given(
    person=NAMES,
    above=st.sampled_from(["/home/", "/Users/", "file:///home/", "/nfs/home/", "x=/home/"]),
    inner=st.lists(NAMES, max_size=2),
    form=st.sampled_from(["{}", "['{}']", '{{"a": ["{}", 1]}}', "a {} b", "--x={},{}", "[{}, {}"]),
    key=st.sampled_from(["engine.extra.a", "engine.env.VLLM_X", "model.pretrained"]),
)
def test_no_name_of_a_home_directory_is_published(
    person: str, above: str, inner: list[str], form: str, key: str
) -> None:
    home = ["SECRET" + person, *(f"SECRET{each}" for each in inner)]
    path = f"{above}{'/'.join(home)}/weights"
    value = form.format(path, path)
    for sides in (f"{value} → null", f"1 → {value}", f"{value} → 2 → 3"):
        assert "SECRET" not in published(f"{key}: {sides}", words=(f"{key}={value}",))


def test_a_model_that_is_a_path(plan: Plan, environment: Environment) -> None:
    named = replace(plan, model="/home/alice/weights")
    empty = Recorded(OmegaConf.create())
    assert reproduction.stack(empty, named, environment).model == "weights"


def switches(n: int) -> list[Switch]:
    return [Switch((Change(f"engine.extra.s{each}", 0, 1),), Restart.RESTART) for each in range(n)]


@pytest.mark.parametrize(("n", "probes"), [(1, 6), (2, 7), (12, 13), (16, 13), (17, 15)])
def test_cost(n: int, probes: int, tmp_path: Path) -> None:
    runs = [RunDirectory(tmp_path / each) for each in ("slow", "fast", "none", "old")]
    timings = {"load_tasks_s": 1.0, "start_engine_s": 30.0, "evaluate_s": 9.0}
    for run, factor in zip(runs[:2], (2, 1), strict=True):
        run.claim()
        scaled = {key: factor * value for key, value in timings.items()}
        write_json(run.outcome, Outcome(Ended.COMPLETED, timings=scaled))
    runs[3].claim()
    write_json(runs[3].outcome, Outcome(Ended.COMPLETED, timings={}))
    starts = probes - 1 + 2
    assert cost(switches(n), runs) == Cost(probes, 3, starts, 80.0 * starts)
    assert cost(switches(n), runs[2:]).seconds is None
    levels = max(math.ceil(math.log2(n)), 1)
    at_once = cost(switches(n), runs, side_by_side=True)
    assert (at_once.probes, at_once.traced) == (probes, 3)
    assert at_once.starts == 2 * (probes - 5) + 5 + 2
    assert at_once.seconds == 80.0 * (2 * levels + 2 + 2)
    runs[3].outcome.write_text('{"state": "of another version"}')
    assert cost(switches(n), runs[2:]).seconds is None


def test_the_trace_of_another_data_type_has_an_engine_for_its_noise() -> None:
    types = Switch((Change("engine.dtype", "float32", "bfloat16"),), Restart.RESTART)
    assert cost([types], []).starts == cost(switches(1), []).starts + 1


def run_directory(
    directory: Path, *overrides: str, environment: Environment | None = None, **plan: Any
) -> Path:
    """A finished run of the canary, with the configuration that these overrides compose."""
    loading.register()
    words = ["python", "-m", "runner", "tracking=off", "engine=cpu", *overrides]
    write_run(directory, rows(3), environment=environment, **plan)
    Composed(
        OmegaConf.to_yaml(compose(words[3:]), resolve=True), f"cd /somewhere\n{shlex.join(words)}\n"
    ).write(RunDirectory(directory))
    return directory


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return run_directory(tmp_path / "good")


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one message of a usage error."""
    output = [] if "--output" in words else ["--output", "why"]
    assert __main__.main([*map(str, words), *output]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert printed.err.strip()
    return " ".join(printed.err.split())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine may start: a probe fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runner.why.probes.perform", lambda *a, **k: pytest.fail("a probe ran"))


def test_an_unknown_directory(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in complaint(capsys, good, "./nowhere")
    assert "nowhere" in complaint(capsys, "./nowhere", good)


def test_a_directory_without_a_run(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in complaint(capsys, good, tmp_path / "empty")


def test_the_same_run_twice(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, good, good)
    assert "no setting of the engine differs" in said and "runner.compare" in said
    assert not (good.parent / "why").exists()


def test_a_run_of_another_task(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = run_directory(tmp_path / "bad", "task.num_fewshot=3")
    said = complaint(capsys, good, bad)
    assert "What differs: task.num_fewshot" in said


def test_a_replay_as_the_good_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run_directory(tmp_path / "replay", replay=ReplayPlan("/outputs/first", "ab", "decode"))
    bad = run_directory(tmp_path / "bad", "engine.dtype=bfloat16")
    assert "is a replay" in complaint(capsys, good, bad)


@pytest.mark.parametrize("which", ["good", "bad"])
def test_a_run_of_somebody_elses_server(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("engine=endpoint", "engine.endpoint.url=http://127.0.0.1:9")
    good = run_directory(tmp_path / "good", *(at if which == "good" else ()))
    bad = run_directory(tmp_path / "bad", "engine.window=3", *(at if which == "bad" else ()))
    said = complaint(capsys, good, bad)
    assert which in said and "http://127.0.0.1:9" in said


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_is_no_directory(
    place: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    bad = run_directory(tmp_path / "bad", "engine.dtype=bfloat16")
    assert f"--output {place}" in complaint(capsys, good, bad, "--output", place)


def test_a_plan_starts_nothing(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = run_directory(tmp_path / "bad", "engine.dtype=bfloat16", "engine.window=3")
    assert __main__.main([str(good), str(bad), "--plan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 settings of the engine differ" in said
    assert "engine.dtype: float32 → bfloat16" in said
    assert "at most 7 probes and 3 more for the trace, 9 engine starts for one cause" in said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad", "good"]


def test_commands_name_the_cause_and_the_reference(
    good: Path, plan: Plan, environment: Environment
) -> None:
    from runner.config import recorded

    found = recorded.read(good)
    switch = Switch((Change("engine.dtype", "float32", "bfloat16"),), Restart.RESTART)
    without, with_ = reproduction.commands(found, good, [switch], [Cause((0,), ONE)])
    assert "engine.dtype" not in without.text and "engine.dtype=bfloat16" in with_.text
    for each in (without, with_):
        assert f"verdict.reference={good}" in each.text and "verdict.rule=replay" in each.text
    stack = reproduction.stack(found, plan, environment)
    assert stack.asked == ("engine=cpu",)
    bare = replace(found, words=())
    assert reproduction.commands(bare, good, [switch], [Cause((0,), ONE)]) == []
    assert reproduction.stack(bare, plan, environment).asked == ("(the command was not recorded)",)
    assert stack.versions["vllm"] == "0.23.0" and stack.versions["cann"] == "9.1.0"
