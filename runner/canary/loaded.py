"""A model directory, loaded: the model, and batches made by the directory's own processor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runner.canary.batch import Batch, pad_right, rope_positions
from runner.canary.library import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from runner.canary.prompt import body
from runner.canary.questions import Question
from runner.canary.tokens import END, PAD


def _messages(question: Question, system: str) -> list[dict[str, Any]]:
    """The chat that lm-eval makes of a question."""
    parts: list[dict[str, Any]] = []
    for _ in question.scenes:
        parts += [{"type": "image"}, {"type": "text", "text": " "}]
    parts[-1:] = [{"type": "text", "text": f" {body(question.text, question.options)}"}]
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": parts}]


@dataclass(frozen=True)
class Loaded:
    """A model in float32 with the processor of the same directory."""

    model: Any
    processor: Any

    @classmethod
    def open(cls, directory: Path) -> "Loaded":
        """Load the canary's directory or a damaged copy of it."""
        # Not at the top of the module: releases before transformers 5 don't have it.
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
        # Training cut its patches with PIL; torchvision rounds some resized pixels differently.
        processor = Qwen2_5_VLProcessor.from_pretrained(directory)
        processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(directory)
        return cls(model.eval(), processor)

    def batch(
        self, questions: Sequence[Question], answers: Sequence[str], system: str = ""
    ) -> Batch:
        """Prompts and answers as one batch; ``options``, which only training uses, is empty."""
        processor, tokenizer = self.processor, self.processor.tokenizer
        image_token, end, pad = (
            tokenizer.convert_tokens_to_ids(token) for token in ("<|image_pad|>", END, PAD)
        )
        rows, patches, grids = [], [], []
        for question, answer in zip(questions, answers, strict=True):
            chat = _messages(question, system)
            made = processor(
                text=[processor.apply_chat_template(chat, add_generation_prompt=True)],
                images=[scene.image for scene in question.scenes] or None,
                return_tensors="pt",
            )
            prompt = made["input_ids"][0].tolist()
            grid = made["image_grid_thw"].tolist() if question.scenes else []
            own = [(rows, columns) for _, rows, columns in grid]
            ids = [*prompt, *tokenizer.encode(answer), end]
            rows.append((ids, len(prompt), rope_positions(ids, image_token, own)))
            if not question.scenes:
                continue
            grids += own
            pixels = made["pixel_values"]
            # The processor repeats every patch for two time steps; a batch has each once.
            patches.append(pixels.view(len(pixels), 3, 2, -1)[:, :, 0].flatten(1))
        return Batch(*pad_right(rows, pad), torch.cat(patches), grids, list(questions))
