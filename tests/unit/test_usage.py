"""Each kind of complaint of Hydra and OmegaConf, as one line for the person who typed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import metadata

import hydra
import pytest
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    InterpolationKeyError,
    OmegaConfBaseException,
    ReadonlyConfigError,
    ValidationError,
)

from runner.config import loading
from runner.config.schema import RunConfig
from runner.config.usage import EXTRAS, explain, is_usage_error, schema_keys, suggestion
from tests.extras import needs

# What brings the choices of each extra.
PLUGINS = {
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "search": "hydra_plugins.hydra_optuna_sweeper",
}


@pytest.fixture(autouse=True)
def hydra_is_ready() -> Iterator[None]:
    loading.register()
    with hydra.initialize_config_dir(str(loading.config_directory()), version_base="1.3"):
        yield


def raised(*overrides: str) -> Exception:
    with pytest.raises(Exception) as caught:
        hydra.compose("config", ["engine=cpu", "tracking=off", *overrides])
    return caught.value


def test_missing_config_with_options() -> None:
    error = raised("model=qwen3_8")
    assert isinstance(error, MissingConfigException)
    assert explain(error) == (
        "model=qwen3_8: no such choice. Did you mean 'qwen3_8b'? "
        f"Known: {', '.join(sorted(error.options or ()))}"
    )


@pytest.mark.parametrize(("choice", "extra"), EXTRAS.items())
def test_a_choice_of_a_plugin_that_is_not_there_names_the_extra(choice: str, extra: str) -> None:
    absent = MissingConfigException("not there", choice.replace("=", "/"), ["basic"])
    wanted = f"{choice}: not installed: pip install 'ascend-accuracy-runner[{extra}]'"
    assert explain(absent) == wanted
    assert extra in metadata("ascend-accuracy-runner").get_all("Provides-Extra", [])


@pytest.mark.parametrize(
    "choice",
    [pytest.param(choice, marks=needs(PLUGINS[extra], extra)) for choice, extra in EXTRAS.items()],
)
def test_the_extra_brings_the_choice(choice: str) -> None:
    assert hydra.compose("config", ["engine=cpu", choice], return_hydra_config=True)


def test_missing_config_without_options_keeps_hydras_words() -> None:
    assert explain(MissingConfigException("nothing here", "conf")) == "nothing here"


def test_missing_primary_config_keeps_hydras_words() -> None:
    with pytest.raises(MissingConfigException) as caught:
        hydra.compose("no_such_file", [])
    assert "no_such_file" in explain(caught.value)


def test_override_that_cannot_be_parsed() -> None:
    error = raised("task.limit=[1")
    assert isinstance(error, OverrideParseException)
    message = explain(error)
    assert message.startswith("task.limit=[1: cannot be parsed as key=value (")


def test_unparsable_override_is_one_line() -> None:
    assert "\n" not in explain(raised("task.limit=[1"))


def test_unknown_group_in_the_defaults_list() -> None:
    error = raised("modle=qwen3_8b")
    assert "modle: no such key" in explain(error)
    assert "Did you mean 'model'?" in explain(error)


def test_wrong_type_inside_hydras_own_exception() -> None:
    error = raised("parallelism.tp=x")
    assert isinstance(error, ConfigCompositionException)
    message = explain(error)
    assert message.startswith("parallelism.tp: ")
    assert "'x'" in message
    assert "Integer" in message
    assert "full_key" not in message


def test_unknown_key_inside_hydras_own_exception() -> None:
    message = explain(raised("engine.max_model_length=5"))
    assert message.startswith("engine.max_model_length: no such key.")
    assert "Did you mean 'max_model_len'?" in message


def test_bare_validation_error() -> None:
    config = OmegaConf.structured(RunConfig)
    with pytest.raises(ValidationError) as caught:
        config.parallelism.dp = "many"
    assert explain(caught.value).startswith("parallelism.dp: ")


def test_bare_attribute_error() -> None:
    config = OmegaConf.structured(RunConfig)
    with pytest.raises(ConfigAttributeError) as caught:
        _ = config.verdict.rtoll
    message = explain(caught.value)
    assert message.startswith("verdict.rtoll: no such key. Did you mean 'rtol'?")
    assert "require_baseline, rtol, rule" in message


def test_interpolation_to_nowhere() -> None:
    config = OmegaConf.create({"a": {"b": "${nowhere.at.all}"}})
    with pytest.raises(InterpolationKeyError) as caught:
        _ = config.a.b
    message = explain(caught.value)
    assert message.startswith("a.b: ")
    assert "nowhere.at.all" in message
    assert "\n" not in message


def test_readonly() -> None:
    config = OmegaConf.create({"a": 1})
    OmegaConf.set_readonly(config, True)
    with pytest.raises(ReadonlyConfigError) as caught:
        config.a = 2
    assert explain(caught.value).startswith("a: ")


def test_any_other_exception_of_hydra_keeps_its_words() -> None:
    assert explain(HydraException("  as it says  ")) == "as it says"


@pytest.mark.parametrize(
    ("error", "theirs"),
    [
        (MissingConfigException("m", "f"), True),
        (ConfigCompositionException("m"), True),
        (OmegaConfBaseException("m"), True),
        (RuntimeError("m"), False),
        (OSError("m"), False),
        (KeyError("m"), False),
    ],
)
def test_only_what_a_user_typed_is_a_usage_error(error: Exception, theirs: bool) -> None:
    assert is_usage_error(error) is theirs


def test_suggestion_is_silent_where_nothing_is_near() -> None:
    assert suggestion("zzz", ("tp", "pp")) == ""
    assert suggestion("tpp", ("tp", "ep")) == " Did you mean 'tp'?"


def test_schema_keys_reach_every_group() -> None:
    keys = schema_keys(RunConfig)
    expected = {"model.serve.tp", "engine.extra", "verdict.rtol", "output_dir", "parallelism"}
    assert expected <= set(keys)
