"""What templates/browser.js says to people. `{placeholders}` are filled by the script."""

from __future__ import annotations

import json

from runner.language import N_, translated

TEXTS = {
    "old": N_("This list needs a browser of 2023 or later."),
    "other_run": N_("the server shows another run by now; reload this page"),
    "answered": N_("the server answered {status}"),
    "error": N_("Error: {message}"),
    "repeated": N_("{name} (sample {number})"),
    "part": N_("{listed} of {total}"),
    "searching": N_("{tally}, searching ({percent} %)"),
    "search": N_("Search prompts and answers"),
    "any": N_("{name}: all"),
    "only": N_("Show only"),
    "sample": N_("Sample"),
    "samples": N_("Samples"),
    "chosen": N_("Chosen sample"),
    "link": N_("Link"),
    "address": N_("Address of this sample and filter"),
    "previous": N_("Previous sample (k)"),
    "next": N_("Next sample (j)"),
    "prompt": N_("Prompt"),
    "prompt_of": N_("Prompt of {run}"),
    "images_of": N_("Images of {run}"),
    "image": N_("Image {number} of {count}, {width} by {height} pixels"),
    "image_left_out": N_("[image {digest}, {size}, not in this page]"),
    "image_lost": N_("[image {digest}, not kept]"),
    "reasoning": N_("Reasoning ({count} characters)"),
    "choices": N_("Log-likelihood of each choice, in nats"),
    "choice": N_("choice {number}"),
    "choice_unknown": N_("choice unknown"),
    "not_asked": N_("not asked in this run"),
    "not_finite": N_("not finite"),
    "no_score": N_("none"),
    "score": N_("Score:"),
    "answer": N_("Answer {number} of {count}"),
    "parsed": N_("Parsed:"),
    "parsed_by": N_("Parsed ({filter}):"),
    "nothing": N_("nothing"),
    "target": N_("Correct answer:"),
}
# By what the page calls its samples.
OF_UNIT = {
    "samples": {
        "tally": N_("{count} samples"),
        "lost": N_("{count} samples; this page has no sample {sample}"),
        "none": N_("None of the samples matches."),
    },
    "questions": {
        "tally": N_("{count} questions"),
        "lost": N_("{count} questions; this page has no sample {sample}"),
        "none": N_("None of the questions matches."),
    },
}


def texts(unit: str) -> str:
    """Return the texts in the chosen language as JSON; `unit` is `samples` or `questions`."""
    messages = TEXTS | OF_UNIT[unit]
    return json.dumps(
        {name: translated(message) for name, message in messages.items()}, ensure_ascii=False
    )
