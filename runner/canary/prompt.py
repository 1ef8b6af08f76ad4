"""The model's prompt: lm-eval's MMMU prompt inside the canary's chat template.

``render`` does what lm-eval and the processor do together, including the repeated image
placeholders. A test compares it with both.
"""

from collections.abc import Sequence

from runner.canary.questions import LETTERS

IMAGE = "<|image_pad|>"
SYSTEM = "You are a helpful assistant."  # the system message of a share of the training prompts

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' or part['type'] == 'image_url' -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif 'text' in part -%}
{{ part['text'] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def body(text: str, options: Sequence[str]) -> str:
    """The question as in lm-eval's ``mmmu`` task, multiple choice or open."""
    if not options:
        return f"{text}\n\nAnswer the question using a single word or phrase."
    lines = "\n".join(f"({LETTERS[i]}) {option}" for i, option in enumerate(options))
    hint = "Answer with the option's letter from the given choices directly."
    return f"{text}\n\n{lines}\n\n{hint}"


def render(text: str, options: Sequence[str], image_tokens: Sequence[int], system: str = "") -> str:
    """The whole prompt. ``image_tokens`` is the number of placeholder tokens for each image."""
    images = " ".join(f"<|vision_start|>{IMAGE * n}<|vision_end|>" for n in image_tokens)
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return (
        f"{head}<|im_start|>user\n{images} {body(text, options)}<|im_end|>\n<|im_start|>assistant\n"
    )
