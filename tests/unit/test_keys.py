"""Every key has a meaning, in docs/keys.md as in --help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from runner.config import loading
from runner.config.keys import Key, commented, keys, markdown
from runner.config.schema import RunConfig

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
KNOWN = {key.name: key for key in keys()}


@pytest.mark.parametrize("key", keys(), ids=lambda key: str(key.name))
def test_a_meaning_is_one_sentence_on_one_line(key: Key) -> None:
    assert key.meaning.endswith((".", ").")) and key.meaning[0].isalnum()
    assert len(key.meaning) <= 90 and "\n" not in key.meaning


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "python -m runner.config.keys > docs/keys.md"
    )


def test_every_key_that_can_be_composed_is_known(compose: Callable[..., RunConfig]) -> None:
    def leaves(value: object, path: str) -> list[str]:
        fields = getattr(value, "__dataclass_fields__", None)
        if fields is None:
            return [path]
        inside = [name for name in fields if not fields[name].metadata.get("omegaconf_ignore")]
        return [
            leaf for n in inside for leaf in leaves(getattr(value, n), f"{path}.{n}".strip("."))
        ]

    composed = leaves(compose(), "")
    assert [
        name for name in KNOWN if not any(part.isupper() for part in name.split("."))
    ] == composed


def test_defaults_and_types_are_spelled_as_on_the_command_line() -> None:
    assert KNOWN["model.serve.tp"] == Key("model.serve.tp", "int", "`1`", "Tensor-parallel size.")
    assert KNOWN["parallelism.tp"].default == "`${model.serve.tp}`"
    assert KNOWN["task.limit"].type == "float or null"
    assert KNOWN["engine.enforce_eager"].type == "bool"
    assert KNOWN["model.name"].default == "set by conf/"
    assert KNOWN["verdict.metrics.TASK.METRIC.FILTER.margin"].default == "`null`"


def test_help_shows_values_with_their_meanings() -> None:
    loading.register()
    with hydra.initialize_config_dir(str(loading.config_directory()), version_base="1.3"):
        composed = hydra.compose("config", ["output_dir=here"])
    for resolve, value in ((False, "${model.serve.pp}"), (True, "1")):
        lines = commented(composed, resolve).splitlines()
        (pp,) = (
            line
            for line in lines
            if line.endswith("# Pipeline-parallel size.")
            and value in line
            and "serve:" not in line
            and not line.startswith("    ")
        )
        assert pp.split("#")[0].split() == ["pp:", value]
        assert OmegaConf.create("\n".join(lines)) == OmegaConf.create(
            OmegaConf.to_yaml(composed, resolve=resolve)
        )
