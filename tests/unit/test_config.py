"""conf/ composes, every bad value is named, and what the original test could say can be said."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from runner import interpreters
from runner.baseline import Baseline
from runner.canary import DATASET, TASKS
from runner.config import composition, places
from runner.config.loading import config_directory, load, register
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.why.ladder import read_ladder
from tests.baselines import exact

Compose = Callable[..., RunConfig]

# The other models are composed in test_models.py; ladders are no choices of a run (below).
CHOICES = sorted(
    f"{file.parent.name}={file.stem}"
    for file in config_directory().glob("*/*.yaml")
    if file.parent.name not in ("hydra", "local", "suite", "sweep", *places.ASIDE)
    and (file.parent.name != "model" or file.stem == "any")
)


@pytest.fixture(scope="module")
def composed_once() -> DictConfig:
    register()
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        return hydra.compose("config", ["engine=cpu", "tracking=off"])


@pytest.fixture
def composed(composed_once: DictConfig) -> DictConfig:
    """The defaults, to be changed by a test without Hydra's help, which takes its time."""
    return copy.deepcopy(composed_once)


def problems(compose: Compose, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        compose(*overrides)
    return caught.value.problems


# What composes


def test_every_group_has_a_choice() -> None:
    groups = {choice.partition("=")[0] for choice in CHOICES}
    assert groups == {
        "model",
        "task",
        "parallelism",
        "engine",
        "source",
        "verdict",
        "tracking",
        "limits",
        "journal",
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(compose: Compose, choice: str) -> None:
    overrides = [choice]
    if choice == "model=any":
        overrides += ["model.pretrained=Org/any", "task=gsm8k"]
    if choice == "task=custom":
        overrides.append("task.names=[arc_easy]")
    if choice in ("verdict=paired", "verdict=numerics", "verdict=replay"):
        overrides.append("verdict.reference=baseline@canary_vl/canary")
    config = compose(*overrides)
    group, _, name = choice.partition("=")
    if group == "model":
        assert config.model.trust_remote_code is False
    if group == "engine":
        runtimes = {"transformers": "transformers", "endpoint": "endpoint", "served": "server"}
        if name in runtimes:
            assert config.engine.runtime == runtimes[name]
        else:
            assert config.engine.platform == name.partition("_")[0]


@pytest.mark.parametrize("name", places.choices("ladder"))
def test_every_rung_of_a_ladder_composes(name: str) -> None:
    """On a model that the platform serves; each changes some run."""
    rungs = read_ladder(name)
    assert len({rung.change for rung in rungs}) == len(rungs) > 1
    served = ["model=qwen3_30b_a3b", "output_dir=/o", f"engine={name}"]
    eager = [*served, "parallelism.tp=2", "parallelism.ep=true", "engine.enforce_eager=true"]
    graphs = [*served, "engine.dtype=float16", "engine.enforce_eager=false"]
    for rung in rungs:
        changed = []
        for start in (eager, graphs):
            before = load(composition.compose(start))
            changed.append(load(composition.compose([*start, *rung.overrides])) != before)
        assert any(changed), rung.change


def test_the_groups_of_a_run() -> None:
    groups = {choice.partition("=")[0] for choice in CHOICES}
    assert set(places.groups()) == groups | {"suite", "sweep"}


@pytest.mark.parametrize("word", ["ladder=cpu", "+ladder=cpu", "++ladder=cpu"])
def test_a_ladder_is_no_setting_of_a_run(word: str) -> None:
    with pytest.raises(UserError) as caught:
        composition.compose([word])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{word}: ") and "runner.why RUN --ladder NAME" in problem


@pytest.mark.parametrize(
    ("model", "task"),
    [("qwen3_8b", "gsm8k"), ("qwen2_5_vl_7b", "mmmu_val"), ("canary_vl", "canary")],
)
def test_a_model_brings_its_task(compose: Compose, model: str, task: str) -> None:
    assert compose(f"model={model}").task.names == [task]


def test_a_task_on_the_command_line_beats_the_models(compose: Compose) -> None:
    config = compose("model=qwen2_5_vl_7b", "task=gsm8k")
    assert config.model.name == "qwen2_5_vl_7b"
    assert config.task.names == ["gsm8k"]


def test_task_names_beat_the_models_task(compose: Compose) -> None:
    config = compose("model=qwen3_8b", "task.names=[gsm8k,ceval-valid]")
    assert config.task.names == ["gsm8k", "ceval-valid"]


def test_no_choice_leaves_another_choices_data_behind(compose: Compose) -> None:
    """The canary is the default task; none of its directories may follow into another one."""
    task = compose("model=qwen3_8b").task
    assert (task.data_dir, task.include_path) == (None, None)


def test_what_a_model_serves_flows_into_layout_and_engine(compose: Compose) -> None:
    served = [
        "model.serve.tp=4",
        "model.serve.pp=2",
        "model.serve.ep=true",
        "model.serve.max_model_len=777",
        "model.serve.dtype=float16",
        "model.serve.quantization=ascend",
        "model.serve.enforce_eager=true",
        "model.serve.gpu_memory_utilization=0.7",
    ]
    config = compose("engine=ascend", *served)
    assert (config.parallelism.tp, config.parallelism.pp, config.parallelism.ep) == (4, 2, True)
    assert config.engine.max_model_len == 777
    assert config.engine.dtype == "float16"
    assert config.engine.quantization == "ascend"
    assert config.engine.enforce_eager is True
    assert config.engine.gpu_memory_utilization == 0.7


def test_an_override_beats_what_the_model_serves(compose: Compose) -> None:
    config = compose(
        "model=qwen3_8b",
        "parallelism.tp=2",
        "engine.max_model_len=512",
        "engine.gpu_memory_utilization=0.6",
        "engine.dtype=float16",
        "engine.enforce_eager=false",
    )
    assert config.parallelism.tp == 2
    assert config.engine.max_model_len == 512
    assert config.engine.gpu_memory_utilization == 0.6
    assert config.engine.dtype == "float16"
    assert config.engine.enforce_eager is False
    assert (config.model.serve.tp, config.model.serve.max_model_len) == (1, 4096)


def test_a_setting_can_be_taken_back_to_null(compose: Compose) -> None:
    assert compose("model=qwen3_8b", "engine.max_model_len=null").engine.max_model_len is None


@pytest.mark.parametrize(
    ("model", "baselines"),
    [
        (
            "qwen3_8b",
            {"gsm8k": {"exact_match": {"strict-match": 0.765, "flexible-extract": 0.81}}},
        ),
        ("qwen2_5_vl_7b", {"mmmu_val": {"acc": {"none": 0.51}}}),
    ],
)
def test_published_baselines(
    compose: Compose, model: str, baselines: dict[str, dict[str, dict[str, float]]]
) -> None:
    assert compose(f"model={model}").model.baselines == {
        task: exact(values) for task, values in baselines.items()
    }


def test_a_baseline_can_be_set_from_the_command_line(compose: Compose) -> None:
    config = compose(
        "model=qwen3_8b",
        "++model.baselines.gsm8k.exact_match.strict-match=0.7",
        "++model.baselines.ceval-valid.acc.none=0.8",
    )
    assert config.model.baselines["gsm8k"]["exact_match"] == {
        "strict-match": Baseline(0.7),
        "flexible-extract": Baseline(0.81),
    }
    assert config.model.baselines["ceval-valid"] == exact({"acc": {"none": 0.8}})


def test_the_original_rule_is_the_default(composed: DictConfig) -> None:
    verdict = load(composed).verdict
    assert (verdict.rule, verdict.rtol, verdict.require_baseline) == ("isclose", 0.05, True)


def test_everything_the_original_test_could_say(compose: Compose) -> None:
    """Each key of vllm-ascend's model files and each option of its pytest run."""
    config = compose(
        "engine=ascend",
        "model.name=Qwen3-30B-A3B",
        "model.pretrained=Qwen/Qwen3-30B-A3B",
        "model.hardware='Atlas A2 Series'",
        "model.backend=vllm",
        "model.trust_remote_code=true",
        "model.enable_thinking=false",
        "model.max_images=1",
        "++model.chat_template_args.thinking=true",
        "task.names=[gsm8k,ceval-valid]",
        "task.num_fewshot=5",
        "task.limit=40",
        "task.batch_size=32",
        "task.apply_chat_template=false",
        "task.fewshot_as_multiturn=false",
        "++task.gen_kwargs.temperature=0",
        "++model.baselines.gsm8k.exact_match.flexible-extract=0.85",
        "++model.baselines.ceval-valid.acc.none=0.84",
        "parallelism.tp=2",
        "parallelism.pp=1",
        "parallelism.ep=true",
        "engine.max_model_len=4096",
        "engine.dtype=auto",
        "engine.quantization=ascend",
        "engine.enforce_eager=true",
        "engine.gpu_memory_utilization=0.7",
        "engine.seed=1234",
        "++engine.extra.load_format=dummy",
        "++engine.additional_config.weight_nz_mode=2",
        "++engine.env.VLLM_USE_MODELSCOPE='True'",
        "verdict.rtol=0.03",
    )
    assert config.model.baselines["ceval-valid"] == exact({"acc": {"none": 0.84}})
    assert config.model.trust_remote_code is True
    assert config.model.enable_thinking is False
    assert config.task.limit == 40
    assert config.task.batch_size == "32"
    assert config.task.gen_kwargs == {"temperature": 0}
    assert config.parallelism.ep is True
    assert config.engine.extra == {"load_format": "dummy"}
    assert config.engine.additional_config == {"weight_nz_mode": 2}
    assert config.engine.env["VLLM_USE_MODELSCOPE"] == "True"
    assert config.verdict.rtol == 0.03


@pytest.mark.parametrize(
    "override", ["task.gen_kwargs.max_gen_toks=5", "task.gen_kwargs={max_gen_toks: 5}"]
)
def test_a_mapping_is_filled_without_a_plus_by_the_entry_or_whole(override: str) -> None:
    config = load(composition.compose([override, "tracking=off"]))
    assert config.task.gen_kwargs == {"max_gen_toks": 5}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.limit", 0.5),
        ("task.limit", 1),
        ("task.limit", 100),
        ("task.limit", None),
        ("task.batch_size", "auto"),
        ("task.batch_size", 32),
        ("task.batch_size", 1),
        ("task.num_fewshot", 0),
        ("verdict.rtol", 0),
        ("engine.gpu_memory_utilization", 1),
        ("engine.max_model_len", 1),
        ("model.max_images", 0),
        ("engine.dtype", "bfloat16"),
    ],
)
def test_values_at_the_edge_of_what_is_allowed(
    composed: DictConfig, key: str, value: object
) -> None:
    OmegaConf.update(composed, key, value)
    load(composed)


def test_how_a_model_is_asked_can_be_set_from_the_command_line(compose: Compose) -> None:
    config = compose("++model.ask.ceval-valid.num_fewshot=3")
    assert config.model.ask["ceval-valid"].num_fewshot == 3
    assert config.model.ask["ceval-valid"].limit is None


def test_an_answer_of_the_wrong_type_below_an_open_mapping_is_named(compose: Compose) -> None:
    (problem,) = problems(compose, "model=qwen3_8b", "++model.ask.gsm8k.num_fewshot=five")
    assert problem.startswith("model.ask.gsm8k.num_fewshot")
    assert "Integer" in problem


# What is refused


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("parallelism.tp=x", "Integer"),
        ("parallelism.tp=1.5", "Integer"),
        ("task.limit=many", "Float"),
        ("model.trust_remote_code=maybe", "bool"),
        ("++model.baselines.gsm8k.acc.none=high", "finite number"),
    ],
)
def test_a_value_of_the_wrong_type_is_one_message(
    compose: Compose, override: str, said: str
) -> None:
    (problem,) = problems(compose, override)
    assert problem.startswith(override.lstrip("+").partition("=")[0])
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("engine.gpu_memory_utilization", 2, "at most 1"),
        ("engine.gpu_memory_utilization", 0, "above 0"),
        ("engine.gpu_memory_utilization", -0.1, "above 0"),
        ("engine.gpu_memory_utilization", math.nan, "at most 1"),
        ("parallelism.tp", 0, "at least 1"),
        ("parallelism.pp", -1, "at least 1"),
        ("parallelism.dp", 0, "at least 1"),
        ("engine.max_model_len", 0, "at least 1"),
        ("engine.dtype", "half", "auto, float16, bfloat16, float32"),
        ("model.backend", "hf", "vllm, vllm-vlm"),
        ("engine.platform", "tpu", "ascend, cuda, cpu"),
        ("verdict.rule", "mcnemar", "isclose"),
        ("verdict.rtol", -0.01, "0 or more"),
        ("verdict.rtol", math.nan, "0 or more"),
        ("verdict.rtol", math.inf, "0 or more"),
        ("task.limit", 0, "whole number"),
        ("task.limit", -1, "whole number"),
        ("task.limit", 1.5, "whole number"),
        ("task.limit", math.nan, "whole number"),
        ("task.limit", math.inf, "whole number"),
        ("task.batch_size", 0, "at least 1"),
        ("task.batch_size", -3, "at least 1"),
        ("task.batch_size", 1.5, "at least 1"),
        ("task.batch_size", "max", "at least 1"),
        ("task.num_fewshot", -1, "0 or more"),
        ("task.names", [], "at least one"),
        ("task.names", ["gsm8k", "gsm8k"], "once"),
        ("model.max_images", -1, "0 or more"),
    ],
)
def test_a_value_out_of_range_is_one_message(
    composed: DictConfig, key: str, value: object, said: str
) -> None:
    OmegaConf.update(composed, key, value)
    with pytest.raises(UserError) as caught:
        load(composed)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}=")
    assert said in problem


def test_thinking_needs_the_token_that_ends_it(composed: DictConfig) -> None:
    OmegaConf.update(composed, "model.enable_thinking", True)
    with pytest.raises(UserError, match=r"^model.think_end_token.*required"):
        load(composed)
    OmegaConf.update(composed, "model.think_end_token", "</think>")
    assert load(composed).model.enable_thinking is True


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_baseline_that_is_no_number(composed: DictConfig, value: float) -> None:
    OmegaConf.set_struct(composed, False)
    composed.model.baselines = {"gsm8k": {"acc": {"none": value}}}
    with pytest.raises(UserError, match=r"^model\.baselines\.gsm8k\.acc\.none=(nan|inf)"):
        load(composed)


@pytest.mark.parametrize("name", ["HF_TOKEN", "OPENAI_API_KEY", "MLFLOW_TRACKING_PASSWORD"])
@pytest.mark.parametrize("where", ["env", "extra"])
def test_a_secret_is_refused_and_not_repeated(composed: DictConfig, where: str, name: str) -> None:
    OmegaConf.set_struct(composed, False)
    composed.engine[where][name] = "hf_verysecret"
    with pytest.raises(UserError) as caught:
        load(composed)
    (problem,) = caught.value.problems
    assert problem.startswith(f"engine.{where}.{name}: looks like a secret")
    assert "verysecret" not in problem


@pytest.mark.parametrize("name", ["tokenizer_mode", "max_num_batched_tokens", "VLLM_USE_V1"])
def test_what_only_sounds_like_a_secret_is_let_through(composed: DictConfig, name: str) -> None:
    OmegaConf.set_struct(composed, False)
    composed.engine.extra[name] = 1
    load(composed)


def test_a_password_in_the_tracking_address_is_refused_and_not_repeated(
    composed: DictConfig,
) -> None:
    composed.tracking.uri = "https://me:verysecret@host"
    with pytest.raises(UserError) as caught:
        load(composed)
    (problem,) = caught.value.problems
    assert problem.startswith("tracking.uri: contains credentials")
    assert "verysecret" not in problem


def test_an_address_that_is_none(composed: DictConfig) -> None:
    composed.tracking.enabled, composed.tracking.uri = True, "http://[::1"
    with pytest.raises(UserError, match=r"^tracking\.uri"):
        load(composed)


@pytest.mark.parametrize("plus", ["", "+"])
def test_an_unknown_key_is_named_with_its_neighbours(compose: Compose, plus: str) -> None:
    (problem,) = problems(compose, f"{plus}parallelism.tpp=2")
    assert problem.startswith("parallelism.tpp: no such key")
    assert "Did you mean 'tp'?" in problem
    assert "dp, ep, pp, tp" in problem


@pytest.mark.parametrize("override", ["a.b=1", "+a.b=1"])
def test_an_unknown_group_is_named(compose: Compose, override: str) -> None:
    (problem,) = problems(compose, override)
    assert problem.startswith(("a: no such key", "a.b: no such key"))


def test_a_typo_below_an_open_mapping_is_named(compose: Compose) -> None:
    (problem,) = problems(compose, "model=qwen3_8b", "++model.ask.gsm8k.num_fewshots=5")
    assert problem.startswith("model.ask.gsm8k.num_fewshots: no such key")
    assert "Did you mean 'num_fewshot'?" in problem


@pytest.mark.parametrize(
    ("override", "near"), [("model=qwen3_8", "qwen3_8b"), ("engine=ascent", "ascend")]
)
def test_an_unknown_choice_is_named_with_the_nearest(
    compose: Compose, override: str, near: str
) -> None:
    (problem,) = problems(compose, override)
    assert problem.startswith(f"{override}: no such choice")
    assert f"Did you mean '{near}'?" in problem


def test_an_unknown_choice_far_from_all_lists_them(compose: Compose) -> None:
    (problem,) = problems(compose, "engine=zzz")
    assert "Did you mean" not in problem
    assert "Known: ascend, ascend_batch_invariant, ascend_deterministic" in problem


def test_every_bad_value_is_reported_at_once(compose: Compose) -> None:
    found = problems(
        compose,
        "parallelism.tp=0",
        "engine.gpu_memory_utilization=2",
        "task.limit=-1",
        "verdict.rtol=-1",
    )
    assert [problem.partition("=")[0] for problem in found] == [
        "parallelism.tp",
        "engine.gpu_memory_utilization",
        "task.limit",
        "verdict.rtol",
    ]


def test_a_missing_value_is_named(compose: Compose) -> None:
    assert problems(compose, "model.pretrained=???") == (
        "model.pretrained: a value is required: model.pretrained=ORG/NAME, or a directory",
    )


def test_weights_without_a_model_file_go_by_their_own_name(compose: Compose) -> None:
    config = compose("model=any", "model.pretrained=Qwen/Qwen3-0.6B", "task.names=[arc_easy]")
    assert (config.model.name, config.model.backend) == ("Qwen3-0.6B", "auto")
    assert (config.model.baselines, config.model.source) == ({}, None)
    assert (config.task.data_dir, config.task.include_path) == (None, None)
    named = compose("model=any", "model.pretrained=/x", "model.name=mine", "task=gsm8k")
    assert named.model.name == "mine"


def test_weights_without_a_model_file_need_a_task(compose: Compose) -> None:
    (said,) = problems(compose, "model=any", "model.pretrained=Qwen/Qwen3-0.6B")
    assert said == "task.names: a value is required: task.names=[gsm8k]"


@pytest.mark.parametrize(
    ("names", "theirs"),
    [
        ("[canary]", True),
        ("[canary_colour,canary_shape]", True),
        ("[arc_easy,canary_count]", True),
        ("[arc_easy]", False),
    ],
)
def test_the_canarys_data_is_read_for_its_own_tasks_alone(
    compose: Compose, names: str, theirs: bool
) -> None:
    task = compose(f"task.names={names}").task
    assert task.data_dir == (str(DATASET.parent) if theirs else None)
    assert task.include_path == str(TASKS)  # where a misspelt name of the canary's is looked up
    own = compose(f"task.names={names}", "task.data_dir=/mine", "task.include_path=/own").task
    assert (own.data_dir, own.include_path) == ("/mine", "/own")


def test_the_store_and_the_experiment_are_those_of_mlflows_variables(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for empty in (True, False):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "" if empty else "http://host:5000")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "" if empty else "nightly")
        tracking = compose("tracking=mlflow").tracking
        local = f"sqlite:///{tmp_path}/mlflow.db"
        assert tracking.uri == (local if empty else "http://host:5000")
        assert tracking.experiment == ("" if empty else "nightly")
    assert compose("tracking=mlflow", "tracking.experiment=own").tracking.experiment == "own"


def test_a_relative_store_is_found_from_every_directory(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def uri(given: str) -> str:
        return compose("tracking=mlflow", f"tracking.uri={given}").tracking.uri

    assert uri("sqlite:///own.db") == f"sqlite:///{tmp_path}/own.db"
    for given in ("sqlite:////data/own.db", "sqlite:///", "http://host"):
        assert uri(given) == given


def test_conf_is_found_beside_the_package() -> None:
    directory = config_directory()
    assert (directory / "config.yaml").is_file()
    assert Path(directory).is_absolute()


def test_a_token_in_place_of_a_user_name_is_refused_and_not_repeated(compose: Compose) -> None:
    (problem,) = problems(compose, "tracking=mlflow", "tracking.uri=https://t0k3n@host")
    assert problem.startswith("tracking.uri: contains credentials")
    assert "t0k3n" not in problem


def test_a_databases_user_name_is_no_secret(compose: Compose) -> None:
    uri = "postgresql://team@host/db"
    assert compose("tracking=mlflow", f"tracking.uri={uri}").tracking.uri == uri


# vllm-ascend's own options


def test_an_option_that_vllm_ascend_would_swallow_is_refused(compose: Compose) -> None:
    (problem,) = problems(
        compose, "engine=ascend", "++engine.additional_config.enable_flashcom1=true"
    )
    assert problem.startswith("engine.additional_config.enable_flashcom1: no such key.")
    assert "Did you mean 'enable_flashcomm1'?" in problem
    assert "weight_nz_mode" in problem


def test_a_nested_option_is_checked_too(compose: Compose) -> None:
    where = "engine.additional_config.ascend_compilation_config"
    (problem,) = problems(compose, "engine=ascend", f"++{where}.fuse_norm=true")
    assert problem.startswith(f"{where}.fuse_norm: no such key.")
    assert "fuse_norm_quant" in problem
    (problem,) = problems(compose, "engine=ascend", f"++{where}.fuse_norm_quant=maybe")
    assert problem.startswith(f"{where}.fuse_norm_quant: ")


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets a vllm-ascend of this version be installed."""

    def install(version: str) -> None:
        monkeypatch.setattr(interpreters, "installed_version", lambda name: version)

    return install


@pytest.mark.parametrize(
    ("installed", "option", "why"),
    [
        (
            "0.26.0rc1",
            "layer_sharding=[o_proj]",
            "vllm-ascend 0.26.0rc1 has no such key; it is in 0.23",
        ),
        ("0.26.0rc1", "enable_matmul_allreduce=true", "it is in 0.23"),
        (
            "0.26.0",
            "recompute_scheduler_enable=true",
            "use engine.additional_config.scheduler_config.recompute_scheduler_enable with this",
        ),
        ("0.23.0", "sparse_kv_offload_config={enabled:true}", "no such key; it is in 0.26"),
        ("0.23.0.post1", "scheduler_config={}", "no such key; it is in 0.26"),
    ],
)
def test_a_key_of_another_release_is_refused_and_says_whose_it_is(
    compose: Compose,
    release: Callable[[str], None],
    installed: str,
    option: str,
    why: str,
) -> None:
    release(installed)
    (problem,) = problems(compose, "engine=ascend", f"++engine.additional_config.{option}")
    assert problem.startswith(f"engine.additional_config.{option.partition('=')[0]}: ")
    assert why in problem


@pytest.mark.parametrize("installed", ["0.26.0rc1", "0.26.0", "0.27.1rc1", "1.0"])
def test_where_0_26_put_the_schedulers_options_they_are_taken(
    compose: Compose, release: Callable[[str], None], installed: str
) -> None:
    release(installed)
    key = "++engine.additional_config.scheduler_config.profiling_chunk_config.enabled=true"
    options = compose("engine=ascend", key).engine.additional_config
    assert options == {"scheduler_config": {"profiling_chunk_config": {"enabled": True}}}


def test_the_untyped_way_is_told_where_no_release_has_the_key(compose: Compose) -> None:
    (problem,) = problems(compose, "engine=ascend", "++engine.additional_config.brand_new=1")
    assert "engine.extra.additional_config with engine.allow_untested=true" in problem


def test_only_what_is_set_is_recorded(compose: Compose) -> None:
    assert compose("engine=ascend").engine.additional_config == {}
    config = compose("engine=ascend", "++engine.additional_config.weight_nz_mode=0")
    assert config.engine.additional_config == {"weight_nz_mode": 0}


def test_other_platforms_have_no_such_options(compose: Compose) -> None:
    (problem,) = problems(compose, "++engine.additional_config.enable_mlapo=false")
    assert "only vllm-ascend reads this key" in problem


def test_the_unchecked_way_is_opened_by_name(compose: Compose) -> None:
    newer = ["engine=ascend", "++engine.extra.additional_config.brand_new=1"]
    (problem,) = problems(compose, *newer)
    assert "engine.allow_untested=true" in problem
    assert compose(*newer, "engine.allow_untested=true").engine.extra
    known = ["engine=ascend", "++engine.extra.additional_config.weight_nz_mode=0"]
    (problem,) = problems(compose, *known)
    assert problem.endswith("use engine.additional_config.weight_nz_mode")
    (problem,) = problems(compose, "engine=cpu", *newer[1:], "engine.allow_untested=true")
    assert "only vllm-ascend reads this key" in problem


@pytest.mark.parametrize(
    ("setting", "cure"),
    [
        ("tensor_parallel_size=2", "use parallelism.tp"),
        ("max_model_len=512", "use engine.max_model_len"),
        ("data_parallel_size=2", "(hydra/launcher=ray)"),
    ],
)
def test_what_the_configuration_has_a_key_for_is_not_given_to_vllm_past_it(
    compose: Compose, setting: str, cure: str
) -> None:
    (problem,) = problems(compose, f"++engine.extra.{setting}")
    assert problem.startswith(f"engine.extra.{setting.partition('=')[0]}: ")
    assert problem.endswith(cure)


@pytest.mark.parametrize(
    ("engine", "variables"),
    [
        ("ascend", set()),
        ("ascend_eager", set()),
        (
            "ascend_deterministic",
            {
                "LCCL_DETERMINISTIC",
                "HCCL_DETERMINISTIC",
                "ATB_MATMUL_SHUFFLE_K_ENABLE",
                "ATB_LLM_LCOC_ENABLE",
            },
        ),
    ],
)
def test_presets_set_their_variables(compose: Compose, engine: str, variables: set[str]) -> None:
    config = compose(f"engine={engine}", "model=qwen3_8b")
    assert set(config.engine.env) == variables
    assert config.engine.enforce_eager is (engine == "ascend_eager")


def test_batch_invariance_is_deterministic_and_more(compose: Compose) -> None:
    steady = compose("engine=ascend_deterministic").engine.env
    assert compose("engine=ascend_batch_invariant").engine.env == {
        **steady,
        "VLLM_BATCH_INVARIANT": "1",
    }


def test_a_model_that_is_served_eagerly_yields_to_the_command_line(compose: Compose) -> None:
    config = compose("engine=ascend", "model=mixtral_8x7b")
    assert (config.parallelism.tp, config.engine.enforce_eager) == (4, True)
    changed = compose(
        "engine=ascend", "model=mixtral_8x7b", "parallelism.tp=8", "engine.enforce_eager=false"
    )
    assert (changed.parallelism.tp, changed.engine.enforce_eager) == (8, False)


# Series


def test_a_record_of_another_series(compose: Compose) -> None:
    config = compose(
        "model=qwen3_8b",
        "++model.by_series.A3.hardware=Atlas A3",
        "++model.by_series.A3.source=us",
        "++model.by_series.A3.baselines.gsm8k.exact_match.strict-match=1",
    )
    assert config.model.by_series["A3"].baselines == {
        "gsm8k": exact({"exact_match": {"strict-match": 1.0}})
    }


def test_a_record_says_where_it_comes_from(compose: Compose) -> None:
    found = problems(compose, "++model.by_series.A3.baselines.gsm8k.exact_match.strict-match=1")
    assert found == (
        "model.by_series.A3.hardware: a value is required",
        "model.by_series.A3.source: a value is required",
    )


def test_an_unknown_series(compose: Compose) -> None:
    entry = "++model.by_series.A9"
    found = problems(compose, f"{entry}.hardware=x", f"{entry}.source=y", f"{entry}.baselines={{}}")
    assert found == ("model.by_series.A9: must be one of A2, A3, 310P, A5",)


def test_where_weights_and_data_come_from(compose: Compose) -> None:
    assert compose().source.weights == "hf"
    assert compose("model=qwen3_8b_w8a8").source.weights == "modelscope"
    local = compose("model=qwen3_8b_w8a8", "source=local", "source.data=hf").source
    assert (local.weights, local.data) == ("local", "hf")
    (problem,) = problems(compose, "source.data=s3")
    assert problem == "source.data=s3: must be one of hf, modelscope, local"


@pytest.mark.parametrize(("engine", "dtype"), [("ascend", "float16"), ("cpu", "float32")])
def test_the_canary_runs_in_a_type_that_the_machine_has(
    compose: Compose, engine: str, dtype: str
) -> None:
    assert compose(f"engine={engine}", "model=canary_vl").engine.dtype == dtype
