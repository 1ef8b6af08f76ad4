"""The tokenizer: Qwen2's pre-tokenization and byte-level BPE, with one token per known word.

Any text can be encoded, since all 256 bytes are tokens. The pre-tokenization must be Qwen2's:
transformers 5 rebuilds it from the class name and ignores the one in ``tokenizer.json``.
"""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from runner.canary.prompt import CHAT_TEMPLATE, body
from runner.canary.questions import KINDS, ask
from runner.canary.vocabulary import GROUPS

END, PAD = "<|im_end|>", "<|endoftext|>"
SPECIAL = (
    PAD,
    "<|im_start|>",
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _corpus() -> list[str]:
    """Every word of every prompt, without option labels, so that "(" and "A" stay two tokens."""
    rng = random.Random(0)
    lines = ["system\n", "user\n", "assistant\n", "You are a helpful assistant."]
    for kind in KINDS:
        question = ask(rng, kind)
        lines += [body(f" {question.text}", ()), body(f" {question.text}", ["", "", "", ""])]
    words = [word for group in GROUPS.values() for word in group]
    labelled = [line for line in "\n".join(lines).splitlines() if not line.startswith("(")]
    return [*labelled, *words, *(f" {word}" for word in words), "\n\n"]


def build_tokenizer() -> Tokenizer:
    """Train the byte-level BPE on the canary's words so that each becomes one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus() * 20, trainer)
    for group in GROUPS.values():
        for word in group:
            forms = [word] if word.isdigit() else [word, f" {word}"]
            if any(len(tokenizer.encode(form).ids) != 1 for form in forms):
                raise AssertionError(f"not one token: {word}")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write the tokenizer files in a format that every transformers 5 release can read."""
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": PAD,
        "additional_special_tokens": list(SPECIAL),
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
