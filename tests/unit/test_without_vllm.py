"""A client of a running server needs no engine on its machine, and imports little."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runner.canary import WEIGHTS

pytestmark = pytest.mark.slow

CODE = """
import json, sys
from runner.errors import UserError
from runner.runtimes.server.answers import Completion, Logprob, Output
from runner.runtimes.server.attached_models import MODEL_CLASSES
names = ("vllm", "ray", "torch._dynamo", "transformers.generation.utils", "sklearn")
left = [name for name in names if name in sys.modules]
lm = MODEL_CLASSES["vllm"](
    pretrained=sys.argv[1], dtype="auto", server={"url": "http://x/v1"}, progress=None
)
text = lm.apply_chat_template([{"role": "user", "content": "What is 1 plus 1?"}])
try:
    lm.check_settings({"max_gen_toks": 4096}, images=False)
except UserError as error:
    refused = str(error)
lm.check_settings({"max_gen_toks": 4095, "until": []}, images=False)
lm.check_settings({"max_gen_toks": 4096}, images=True)
steps = [None, *({token: Logprob(-0.5 * token, 1)} for token in (6, 7, 8, 9))]
output = Output("1", (5, 6, 7, 8, 9), steps, (Completion("", (), None, "length"),))
scored = lm._scored([5, 6, 7, 8, 9], 3, output)
scores = [scored.scored, scored.scored_tokens]
from transformers import GenerationMixin  # for a task whose scores need a model
assert hasattr(GenerationMixin, "generate")
print(json.dumps([left, text, lm.tok_encode(text), lm.max_length, refused, scores]))
"""


def test_prompts_are_rendered_without_vllm() -> None:
    words = [sys.executable, "-c", CODE, str(WEIGHTS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left, text, tokens, longest, refused, scores = json.loads(done.stdout.splitlines()[-1])
    assert left == []
    assert scores == [-0.5 * (8 + 9), 2]
    assert "What is 1 plus 1?" in text
    assert len(tokens) > 5
    assert longest == 4096
    assert "engine.max_model_len=4096: no room for a prompt in addition to an answer of" in refused
