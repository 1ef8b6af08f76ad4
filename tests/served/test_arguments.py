"""The in-process engine's arguments on the command line of the installed `vllm serve`."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import UserError
from runner.platforms.cpu import cure_this_process

pytestmark = pytest.mark.slow

ENGINE = {"model": "/weights", "quantization": None, "enforce_eager": True, "seed": 1234}


@pytest.fixture(scope="module", autouse=True)
def cured() -> None:
    cure_this_process()


def served(**more: Any) -> list[str]:
    from runner.runtimes.server.arguments import serve_arguments

    return serve_arguments({**ENGINE, **more})


BARE = ["/weights", "--disable-uvicorn-access-log", "--enforce-eager", "--seed=1234"]


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        ({"max_model_len": 1024, "dtype": "float32"}, ["--max-model-len=1024", "--dtype=float32"]),
        ({"data_parallel_size": 2}, ["--data-parallel-size=2"]),
        ({"enable_prefix_caching": False}, ["--no-enable-prefix-caching"]),
        ({"trust_remote_code": False}, ["--no-trust-remote-code"]),
        ({"limit_mm_per_prompt": {"image": 2}}, ['--limit-mm-per-prompt={"image": 2}']),
        (
            {"compilation_config": {"cudagraph_mode": "PIECEWISE"}},
            ['--compilation-config={"cudagraph_mode": "PIECEWISE"}'],
        ),
        ({"logits_processors": ["a.b:C", "d:E"]}, ["--logits-processors", "a.b:C", "d:E"]),
        ({"api_server_count": 1}, ["--api-server-count=1"]),
        ({"enable_thinking": True, "max_images": 2}, []),
        (
            {"lora_local_path": "/a=b,c"},
            ["--enable-lora", "--lora-modules", '{"name": "finetuned", "path": "/a=b,c"}'],
        ),
    ],
)
def test_settings_become_flags(engine: dict[str, Any], flags: list[str]) -> None:
    assert served(**engine) == [*BARE, *flags]


def test_lm_evals_name_of_the_weights_is_known() -> None:
    assert served(model=None, pretrained="/others")[0] == "/others"


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ({"enforce_eagr": True}, "engine.extra.enforce_eagr: vllm serve has no such argument. Did"),
        ({"port": 80}, "engine.extra.port: the runner sets this argument of vllm serve itself"),
        ({"dtype": "float3"}, "rejects its arguments: argument --dtype: invalid choice: 'float3'"),
        ({"compilation_config": {"x": 1}}, "validation error for CompilationConfig x Unexpected"),
        ({"chat_template": "/nowhere"}, "rejects its arguments: The supplied chat template"),
    ],
)
def test_what_the_server_rejects_is_told_before_it_starts(
    engine: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        served(**engine)
    assert told in str(caught.value)
    assert "further information" not in str(caught.value)
