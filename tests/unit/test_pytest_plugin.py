"""`pytest -p runner.pytest_plugin` as the original is called; nothing here gets to an engine."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from runner.pytest_plugin import settings_of
from tests.originals import BARE, write

pytest_plugins = ["pytester"]
NIGHTLY = Path(__file__).parents[1] / "nightly_files"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Runner(pytester)


class Runner:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, *words: str | Path) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("-p", "runner.pytest_plugin", *words)


def test_one_test_a_file_and_a_bad_one_costs_itself(run: Runner, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    nowhere = {**BARE, "model_name": "/nowhere", "envs": {"A": "b"}}
    write(configs / "nowhere.yaml", nowhere)
    write(configs / "bad.yaml", {**BARE, "serve": {"gpu_memory_utilization": 2}})
    write(configs / "speech.yaml", {**BARE, "model_type": "vllm-asr"})
    listed = write(
        configs / "accuracy.txt", "# the list\nnowhere.yaml\n\nbad.yaml\nspeech.yaml\ngone.yaml\n"
    )
    junit = tmp_path / "junit.xml"
    ended = run("--config-list-file", listed, f"--junitxml={junit}")
    ended.assert_outcomes(failed=3, skipped=1)
    ended.stdout.fnmatch_lines(
        [
            "collected 4 items",
            "*nowhere.yaml *",
            "model.pretrained=/nowhere: *",
            "*bad.yaml *",
            "engine.gpu_memory_utilization=2.0: *",
            "*gone.yaml*",
            "*gone.yaml: No such file*",
            "*= accuracy =*",
            "nowhere.yaml: warning: envs.A: not applied, as in the original test*",
        ]
    )
    ended.stdout.no_fnmatch_line("*Traceback*")
    names = [case.get("classname") for case in ElementTree.parse(junit).iter("testcase")]
    assert [str(name).rpartition("configs.")[2] for name in names] == [
        "nowhere.yaml",
        "bad.yaml",
        "speech.yaml",
        "gone.yaml",
    ]
    assert not (run.pytester.path / "outputs").exists()  # none was started


def test_the_originals_own_call_from_its_own_checkout(run: Runner) -> None:
    """Its conftest has the same options, its module would import lm-eval: neither is read."""
    models = run.pytester.path / "tests" / "e2e" / "models"
    write(models / "conftest.py", "raise RuntimeError('the conftest was read')\n")
    write(models / "test_lm_eval_correctness.py", "raise RuntimeError('the module was read')\n")
    write(models / "configs" / "Qwen3-8B.yaml", {**BARE, "model_name": "/nowhere"})
    ended = run("-sv", "tests/e2e/models/test_lm_eval_correctness.py")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["tests/e2e/models/configs/Qwen3-8B.yaml::accuracy*FAILED*"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config-list-file", "none.txt"], "*--config-list-file=*none.txt: No such file*"),
        (["--tp-size", "two"], "*--tp-size*invalid int value*"),
    ],
)
def test_a_call_that_means_nothing_is_refused(run: Runner, words: list[str], said: str) -> None:
    ended = run(*words)
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines([said])


def test_tp_size_counts_and_settings_of_ours_have_the_last_word(
    run: Runner, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "a.yaml",
        {**BARE, "model_name": "/nowhere", "serve": {"tensor_parallel_size": 2}},
    )
    own = ("engine=cpu", "verdict.rtol=-1")
    ended = run("--config", file, "--tp-size", "0", "-o", f"accuracy_overrides={' '.join(own)}")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["parallelism.tp=0: *", "verdict.rtol=-1.0: *"])


def test_modelscope_is_asked_where_the_original_would() -> None:
    asking = settings_of(Path("out"), None, {"VLLM_USE_MODELSCOPE": "True"})
    assert "source.weights=modelscope" in asking
    assert "source.weights=modelscope" not in settings_of(Path("out"), None, {})


def test_the_mlflow_store_is_the_one_that_a_run_would_use(tmp_path: Path) -> None:
    uri = "http://tracking:5000"
    assert f"tracking.uri='{uri}'" in settings_of(tmp_path, None, {"MLFLOW_TRACKING_URI": uri})
    assert f"tracking.uri='sqlite:///{Path.cwd()}/mlflow.db'" in settings_of(tmp_path, None, {})


def test_nightly_files_are_run_by_case(run: Runner, tmp_path: Path) -> None:
    """Nothing is started: the weights don't exist. Each says which settings it would have had."""
    nowhere = yaml.safe_load((NIGHTLY / "textvqa.yaml").read_text())
    nowhere["test_cases"][0]["model"] = "/nowhere"
    fast = yaml.safe_load((NIGHTLY / "gsm8k.yaml").read_text())
    fast["test_cases"][0]["benchmarks"]["acc"]["case_type"] = "performance"
    write(tmp_path / "heron.yaml", nowhere)
    write(tmp_path / "fast.yaml", fast)
    listed = write(tmp_path / "nightly.txt", "heron.yaml\nfast.yaml\n")
    ended = run("-rs", "-v", "--config-list-file", listed, "-o", "accuracy_overrides=tracking=off")
    ended.assert_outcomes(failed=2, skipped=1)
    ended.stdout.fnmatch_lines(
        [
            "*heron.yaml::accuracy[[]heron] FAILED*",
            "*heron.yaml::accuracy[[]heron/images] FAILED*",
            "*fast.yaml::accuracy SKIPPED*",
            "model.pretrained=/nowhere: *",
            "heron.yaml[[]heron/images]: warning: benchmarks.acc_images.dataset_path=*",
            "SKIPPED*fast.yaml: measures no accuracy*",
        ]
    )
    ended.stdout.no_fnmatch_line("*Traceback*")


def test_a_nightly_files_engine_is_a_server_unless_another_is_chosen(
    run: Runner, tmp_path: Path
) -> None:
    content = yaml.safe_load((NIGHTLY / "aime.yaml").read_text())
    content["test_cases"][1]["model"] = "/nowhere"
    file = write(tmp_path / "sloth.yaml", content)
    # dp=4 is only for servers.
    own = "accuracy_overrides=tracking=off engine.platform=cpu"
    ended = run("--config", file, "-o", own)
    ended.stdout.no_fnmatch_line("parallelism.dp=4: *")
    ended = run("--config", file, "-o", "accuracy_overrides=engine=cpu tracking=off")
    ended.stdout.fnmatch_lines(["parallelism.dp=4: *engine=served*"])


def test_servers_on_several_nodes_need_an_address(run: Runner) -> None:
    ended = run("--config", NIGHTLY / "multi_node_A3.yaml", "-o", "accuracy_overrides=tracking=off")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["engine.endpoint.url: required with engine=endpoint*"])
