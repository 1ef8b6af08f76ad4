"""The stand-ins for vLLM on the client do what vLLM does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.canary import WEIGHTS
from runner.platforms import cpu
from runner.runtimes.server.sampling import CHOSEN, ELSEWHERE, OF_OPENAI, OF_VLLM

pytestmark = pytest.mark.slow

PARAMETERS = """
import json, sys
from vllm import SamplingParams
from runner.runtimes.server import without_vllm
names = without_vllm.SamplingParams.__struct_fields__
made = [(), ("stop", "."), ("stop", ["a", "b"]), ("temperature", 0.0), ("bad_words", None)]
pairs = []
for given in made:
    settings = {given[0]: given[1]} if given else {}
    if given and given[0] == "temperature":
        settings |= {"top_p": 0.5, "top_k": 3, "min_p": 0.1}
    ours, theirs = (each(**settings) for each in (without_vllm.SamplingParams, SamplingParams))
    pairs.append([[repr(getattr(each, name)) for name in names] for each in (ours, theirs)])
print(json.dumps({"names": names, "pairs": pairs, "all": SamplingParams.__struct_fields__}))
"""
TOKENS = """
import json, sys
from types import SimpleNamespace
from vllm.renderers.hf import resolve_chat_template
from vllm.tokenizers import get_tokenizer
from vllm import EngineArgs
from runner.runtimes.server import without_vllm
model = sys.argv[1]
found = []
for tokenizer, resolve, arguments in (
    (get_tokenizer, resolve_chat_template, EngineArgs),
    (without_vllm.get_tokenizer, without_vllm.resolve_chat_template, without_vllm.EngineArgs),
):
    config = arguments(model=model).create_model_config()
    loaded = tokenizer(model, trust_remote_code=False, revision=None)
    template = resolve(tokenizer=loaded, chat_template=None, tools=None, model_config=config)
    chat = [{"role": "user", "content": "What is 1 plus 1?"}]
    text = loaded.apply_chat_template(chat, tokenize=False, chat_template=template)
    found.append([template, text, loaded(text)["input_ids"], config.max_model_len])
print(json.dumps(found))
"""


def python(code: str, *arguments: str) -> Any:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(cpu.python_path(os.environ))}
    words = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_sampling_parameters_have_vllms_defaults() -> None:
    found = python(PARAMETERS)
    for ours, theirs in found["pairs"]:
        assert dict(zip(found["names"], ours, strict=True)) == dict(
            zip(found["names"], theirs, strict=True)
        )
    sent = {*OF_OPENAI, *OF_VLLM, *CHOSEN, "max_tokens", "logprobs", "extra_args", "detokenize"}
    assert sent <= set(found["names"])
    assert set(found["names"]) <= sent | set(ELSEWHERE)
    assert set(found["names"]) <= set(found["all"])


@pytest.mark.parametrize("own", [False, True])
def test_tokens_and_templates_are_vllms(tmp_path: Path, own: bool) -> None:
    """With `own`, the processor has a chat template of its own in the older form."""
    model = shutil.copytree(WEIGHTS, tmp_path / "model")
    if own:
        template = {"chat_template": "{% for m in messages %}<{{ m.content }}>{% endfor %}"}
        (model / "chat_template.json").write_text(json.dumps(template))
        (model / "chat_template.jinja").unlink(missing_ok=True)
    theirs, ours = python(TOKENS, str(model))
    assert ours == theirs
