"""A recorded configuration runs again as it was, or with changes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner.config import recorded
from runner.config.composed import Composed
from runner.config.composition import compose
from runner.config.recorded import ABSENT, Recorded
from runner.errors import UserError
from runner.rundir import RunDirectory

CHANGES = {
    "engine.dtype": "bfloat16",
    "engine.extra.max_num_seqs": 8,
    "engine.extra.compilation_config": {"mode": 0, "splitting_ops": ["a b", "c"]},
    "engine.env.FLAG": "1",
    "engine.env.TEXT": "it's \"so\", isn't it = {x: [1]}",
    "engine.env.VLLM_CPU_KVCACHE_SPACE": ABSENT,
    "engine.window": None,
    "task.names": ["canary_shape"],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with the files that a run of the canary records."""
    words = ["python", "-m", "runner", "model=canary_vl", "task.limit=5"]
    tree = compose([*words[3:], f"output_dir={tmp_path}"])
    files = RunDirectory(tmp_path)
    Composed(
        OmegaConf.to_yaml(tree, resolve=True),
        f"cd /some/where\n{shlex.join([*words, f'output_dir={tmp_path}'])}\n",
    ).write(files)
    return tmp_path


def _plain(yaml: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(yaml))


def test_without_changes_it_is_the_same_run(run: Path) -> None:
    config, composed = recorded.again(recorded.read(run), {})
    assert composed.yaml == RunDirectory(run).config.read_text()
    assert composed.command == RunDirectory(run).command.read_text()
    assert (config.task.limit, config.engine.dtype) == (5, "float32")


def test_changes_reach_the_configuration(run: Path) -> None:
    config, _ = recorded.again(recorded.read(run), CHANGES)
    assert config.engine.dtype == "bfloat16"
    assert config.engine.extra["max_num_seqs"] == 8
    assert "VLLM_CPU_KVCACHE_SPACE" not in config.engine.env
    assert config.engine.env["TEXT"] == CHANGES["engine.env.TEXT"]


def test_the_recorded_configuration_stays_as_it_was(run: Path) -> None:
    found = recorded.read(run)
    recorded.again(found, CHANGES)
    assert found.value("engine.dtype") == "float32"
    assert found.value("engine.extra.max_num_seqs") is ABSENT


def test_its_command_composes_the_same_configuration(run: Path) -> None:
    _, composed = recorded.again(recorded.read(run), CHANGES)
    move, call = composed.command.splitlines()
    assert move == "cd /some/where"
    tree = compose(shlex.split(call)[3:])
    again = _plain(OmegaConf.to_yaml(tree, resolve=True))
    assert again == _plain(composed.yaml)


def test_a_wrong_value_is_one_message(run: Path) -> None:
    with pytest.raises(UserError, match=r"parallelism\.tp"):
        recorded.again(recorded.read(run), {"parallelism.tp": "two"})


@pytest.mark.parametrize("content", [None, "- a\n- b\n", "a: [", b"\xff\xfe"])
def test_what_is_no_configuration_is_named(tmp_path: Path, content: str | bytes | None) -> None:
    if isinstance(content, bytes):
        (tmp_path / "config.yaml").write_bytes(content)
    elif content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        recorded.read(tmp_path)


def test_a_run_without_a_command_gets_none(run: Path) -> None:
    """A bare `python -m runner engine.dtype=bfloat16` would run another model."""
    RunDirectory(run).command.unlink()
    found = recorded.read(run)
    config, composed = recorded.again(found, {"engine.dtype": "bfloat16"})
    assert (config.engine.dtype, composed.command) == ("bfloat16", "")
    with pytest.raises(UserError, match=r"command\.txt"):
        recorded.recomposed(found, ["engine.dtype=bfloat16"])


# The recorded command


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", ""),
        ("\npython -m runner\n", ""),
        ("\n\n", ""),
        ("cd /a b\npython -m runner\n", ""),
        ("cd 'a\npython -m runner\n", ""),
        ("cd /a\npython 'b\n", ""),
        ("cd /a\n", "/a"),
        ("cd /a\npython -m pytest --pyargs runner\n", "/a"),
        ("cd /a\npython -m runner.why model=any\n", "/a"),
    ],
)
def test_what_is_no_command_of_the_runner_is_not_repeated(
    run: Path, content: str, place: str
) -> None:
    RunDirectory(run).command.write_text(content)
    found = recorded.read(run)
    assert (found.words, found.place) == ((), place)


def test_a_text_of_several_lines_in_the_command(run: Path) -> None:
    words = ("python", "-m", "runner", "task.system_instruction='two\nlines'")
    RunDirectory(run).command.write_text(f"cd /a\n{shlex.join(words)}\n")
    assert recorded.read(run).words == words


@pytest.mark.parametrize(
    "start",
    [
        ["python", "-u", "-m", "runner"],
        ["/v/bin/python3", "-X", "dev", "-m", "runner"],
        ["/v/bin/python", "/v/bin/accuracy-runner"],
        ["accuracy-runner"],
    ],
)
@pytest.mark.parametrize("option", [["--config-dir", "own"], ["--config-dir=own"], ["-cd", "own"]])
def test_a_command_is_composed_again(
    start: list[str], option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own" / "limits").mkdir(parents=True)
    (tmp_path / "own" / "limits" / "mine.yaml").write_text("retries: 7\n")
    words = (*start, "engine=cpu", *option, "limits=mine")
    monkeypatch.chdir("/")
    command = Recorded(OmegaConf.create(), words, str(tmp_path))
    found = recorded.recomposed(command, ["engine.dtype=bfloat16"])
    assert (found.value("limits.retries"), found.value("engine.dtype")) == (7, "bfloat16")
    assert found.words == (*words, "engine.dtype=bfloat16")


def test_a_configuration_of_ones_own_is_composed_again(tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text("defaults: [config, _self_]\ntask: {limit: 3}\n")
    words = ("python", "-m", "runner", "engine=cpu", "--config-dir", ".", "--config-name=nightly")
    command = Recorded(OmegaConf.create(), words, str(tmp_path))
    assert recorded.recomposed(command, []).value("task.limit") == 3


def test_a_wrong_addition_is_one_message(run: Path) -> None:
    with pytest.raises(UserError, match="engine=nothing"):
        recorded.recomposed(recorded.read(run), ["engine=nothing"])
    with pytest.raises(UserError, match=r"model\.pretrained"):
        recorded.recomposed(recorded.read(run), ["model=any"])


# Paths


PATHS = {
    "model.pretrained": "w",
    "model.tokenizer": "Org/tokenizer",
    "engine.python": "venv/bin/python",
    "engine.endpoint.ca_file": "ca.pem",
    "engine.extra.chat_template": "template.jinja",
    "engine.extra.speculative_config": {"model": "draft", "method": "ngram"},
    "engine.additional_config.expert_map_path": "map.json",
    "engine.env.PYTHONPATH": "src",
    "source.dir": "prepared",
    "task.names": ["canary", "./mine.yaml"],
    "task.data_dir": "data",
    "task.include_path": "../tasks",
    "journal.dir": "journal",
    "tracking.uri": "sqlite:///mlflow.db",
    "verdict.reference": ["outputs/a", "outputs/b"],
    "verdict.replay.noise": ["outputs/n"],
}


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return [text for each in value for text in _texts(each)] if isinstance(value, list) else [value]


def test_relative_paths_are_those_of_the_runs_own_directory(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "A"
    (place / "ray").mkdir(parents=True)
    (place / "canary").mkdir()
    files = RunDirectory(run)
    tree = OmegaConf.load(files.config)
    words = "python -m runner model=any model.pretrained=w"
    files.command.write_text(f"cd {place}\n{words}\n")
    for key, value in PATHS.items():
        OmegaConf.update(tree, key, value, force_add=True)
        for text in _texts(value):
            (place / text.removeprefix("sqlite:///")).mkdir(parents=True, exist_ok=True)
    (place / "ngram").rmdir()
    OmegaConf.update(tree, "engine.extra.distributed_executor_backend", "ray", force_add=True)
    OmegaConf.update(tree, "engine.env.LD_PRELOAD", "src/a.so:/usr/", force_add=True)
    (place / "src" / "a.so").touch()
    OmegaConf.save(tree, files.config)
    found = recorded.read(run)
    for key, value in PATHS.items():
        for text in _texts(value):
            name = text.removeprefix("sqlite:///")
            expected = {f"{place / name}", f"sqlite:///{place / name}"}
            if text not in ("canary", "ngram"):
                assert expected & set(_texts(found.value(key))), key
    assert found.value("task.names")[0] == "canary"
    assert found.value("engine.extra.distributed_executor_backend") == "ray"
    assert found.value("engine.env.LD_PRELOAD") == f"{place}/src/a.so:/usr/"
    assert found.words == tuple(words.split())
    assert "model.pretrained=w" in recorded.call(found, {"task.limit": 3})


def test_names_without_a_path_stay(run: Path, tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    files = RunDirectory(run)
    tree = OmegaConf.load(files.config)
    for key, value in PATHS.items():
        OmegaConf.update(tree, key, value, force_add=True)
    OmegaConf.save(tree, files.config)
    files.command.write_text(f"cd {tmp_path / 'A'}\npython -m runner\n")
    found = recorded.read(run)
    for key, value in PATHS.items():
        assert found.value(key) == value


def test_an_added_path_is_relative_to_the_working_directory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "w").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    found = recorded.recomposed(recorded.read(run), ["model.pretrained=w"])
    assert found.value("model.pretrained") == str(tmp_path / "here" / "w")
    assert found.words[-1] == f"model.pretrained={tmp_path / 'here' / 'w'}"


# The command that is written composes what the search has run


def composes(found: Recorded, composed: Composed) -> None:
    """Its command composes its configuration."""
    move, _, typed = composed.command.partition("\n")
    assert move == f"cd {found.place}"
    words = shlex.split(typed)
    tree = compose(words[3:])
    written = Recorded(OmegaConf.create(OmegaConf.to_yaml(tree, resolve=True))).flat()
    assert written == Recorded(OmegaConf.create(composed.yaml)).flat()


def record(*words: str) -> Recorded:
    call = ("python", "-m", "runner", "engine=cpu", "output_dir=/o", *words)
    return recorded.recomposed(Recorded(OmegaConf.create(), call, "/some/where"), [])


WORDS = [
    "model=canary_vl",
    "model=canary_moe",
    "engine.dtype=bfloat16",
    "engine.extra.max_num_seqs=8",
    "engine.extra={max_num_seqs: 4, block_size: 16}",
    "engine.extra.compilation_config.mode=3",
    "engine.env.FLAG=1",
    "engine.env={FLAG: '2', OTHER: x}",
    "engine.env.VLLM_CPU_KVCACHE_SPACE=2",
    "verdict=not_worse",
    "verdict=replay",
    "verdict.reference=/r",
    "verdict.rtol=0.2",
    "verdict.metrics.canary_shape.acc.none.rtol=0.1",
    "verdict.replay.noise=null",
    "task.limit=5",
    "task.names=[canary_shape]",
    "task.gen_kwargs.temperature=0.5",
    "model.serve.dtype=float16",
    "model.hub=modelscope",
    "journal=off",
]
VALUES: dict[str, list[Any]] = {
    "engine.dtype": ["bfloat16", "float32"],
    "engine.extra": [{}, {"block_size": 32}],
    "engine.extra.max_num_seqs": [ABSENT, 8, 16],
    "engine.extra.compilation_config": [ABSENT, {"mode": 0, "splitting_ops": ["a b"]}, {}],
    "engine.env.FLAG": [ABSENT, "1", "it's {x: [1]}"],
    "engine.env.OTHER": [ABSENT, "y"],
    "engine.env.VLLM_CPU_KVCACHE_SPACE": [ABSENT, "3"],
    "engine.window": [None, 4],
    "model.hub": ["hf", "modelscope"],
    "model.pretrained": ["/w/other weights"],
    "model.serve.dtype": ["bfloat16"],
    "task.names": [["canary_shape", "gsm8k"], ["gsm8k"]],
    "task.gen_kwargs": [{}, {"temperature": 1.0}],
    "verdict.metrics": [{}],
    "verdict.replay.noise": [None],
    "verdict.replay.questions": [{}, {"canary_shape": [0, 2]}],
    "journal.continues": [None],
}
REPLAYS = [
    {},
    {"verdict.rule": "replay", "verdict.reference": "/g"},
    {
        "verdict": {
            "rule": "replay",
            "reference": "/g",
            "replay": {"noise": None},
            "allow_reference": True,
        }
    },
]


@pytest.mark.slow
@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    words=st.lists(st.sampled_from(WORDS), unique_by=lambda each: each.partition("=")[0]),
    changes=st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 5), max_size=5),
    replay=st.sampled_from(REPLAYS),
)
def test_any_command_composes_what_was_run(
    words: list[str], changes: dict[str, int], replay: dict[str, Any]
) -> None:
    if "verdict" in replay:
        changes = {key: n for key, n in changes.items() if not key.startswith("verdict.")}
    if "engine.extra" in changes:
        changes = {key: n for key, n in changes.items() if not key.startswith("engine.extra.")}
    chosen = {key: VALUES[key][n % len(VALUES[key])] for key, n in changes.items()}
    found = record(*words)
    try:
        _, composed = recorded.again(found, {**chosen, **replay})
    except UserError:  # the rules reject this combination
        reject()
    composes(found, composed)


def test_a_word_that_is_taken_back_is_not_deleted_as_well() -> None:
    found = record("engine.extra.max_num_seqs=8")
    gone = {"engine.extra.max_num_seqs": ABSENT, "engine.env.X": ABSENT}
    _, composed = recorded.again(found, gone)
    assert composed.command == "cd /some/where\npython -m runner engine=cpu output_dir=/o\n"
    composes(found, composed)


def test_what_a_file_sets_is_deleted() -> None:
    key = "engine.env.VLLM_CPU_KVCACHE_SPACE"
    found = record(f"{key}=7")
    _, composed = recorded.again(found, {key: ABSENT})
    assert composed.command.endswith(f" '~{key}'\n")
    composes(found, composed)


def test_other_weights_name_the_model_file() -> None:
    assert " model=canary_vl " in recorded.call(record(), {"model.pretrained": "/w"})
    named = record("model=any", "model.pretrained=/v")
    assert "model=canary_vl" not in recorded.call(named, {"model.pretrained": "/w"})


def test_a_command_that_cannot_be_composed_here(run: Path) -> None:
    """Its --config-dir is on another machine."""
    call = "python -m runner --config-dir /not/here engine.extra.a=1"
    RunDirectory(run).command.write_text(f"cd /some/where\n{call}\n")
    tree = OmegaConf.load(RunDirectory(run).config)
    OmegaConf.update(tree, "engine.extra.a", 1, force_add=True)
    OmegaConf.update(tree, "engine.extra.b", 1, force_add=True)
    OmegaConf.save(tree, RunDirectory(run).config)
    gone = {"engine.extra.a": ABSENT, "engine.extra.b": ABSENT, "engine.extra.c": ABSENT}
    written = recorded.call(recorded.read(run), gone).splitlines()[1]
    assert written == "python -m runner --config-dir /not/here '~engine.extra.b'"


def test_a_key_without_its_mapping_is_absent_already(run: Path) -> None:
    tree = OmegaConf.load(RunDirectory(run).config)
    del tree["engine"]["env"]
    OmegaConf.save(tree, RunDirectory(run).config)
    config, _ = recorded.again(recorded.read(run), {"engine.env.X": ABSENT, "nothing": ABSENT})
    assert "X" not in config.engine.env
