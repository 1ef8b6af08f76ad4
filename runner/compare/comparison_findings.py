"""Sentences about a comparison: the reasons for its verdict."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runner.compare import numerics_findings, sampled_findings
from runner.compare.amounts import bare
from runner.compare.changed_answers import KindCount
from runner.compare.changes import Kind
from runner.compare.comparison import Comparison
from runner.compare.headline import reasons
from runner.compare.scores import Scores
from runner.evidence.pairing import Reason
from runner.language import N_, gettext, ngettext
from runner.stats import ALPHA
from runner.stats.clusters import test_name
from runner.status import Status
from runner.sweep.axis_findings import amount, probability

# Subjects and settings listed in one sentence.
NAMED = 4
CAUSE = N_("{cause} {count}")
NOISE = {Kind.NEAR_TIE: N_("{cause} {count} (noise)"), Kind.DRAWN: N_("{cause} {count} (chance)")}
ASKED_OTHERWISE = (Reason.PROMPT, Reason.IMAGES, Reason.DOCUMENT)
OTHER_FINGERPRINT = {
    (False, True): N_(
        "No setting differs, but the engine fingerprint does: the content of the weights, "
        "tokenizer, data or code differs."
    ),
    (True, False): N_(
        "No setting differs, but the evaluation fingerprint does: the content of the weights, "
        "tokenizer, data or code differs."
    ),
    (False, False): N_(
        "No setting differs, but the engine and evaluation fingerprint does: the content of the "
        "weights, tokenizer, data or code differs."
    ),
}


def findings(comparison: Comparison) -> list[str]:
    """Return the reasons, one sentence each; empty ones are omitted."""
    found = [
        _questions(comparison),
        _subjects(comparison),
        sampled_findings.equality(comparison),
        *sampled_findings.distributions(comparison),
        _kinds(comparison),
        numerics_findings.shifts(comparison.numerics),
        _unpaired(comparison),
        _reported(comparison),
        numerics_findings.other_tokens(comparison.numerics),
        *(
            gettext("Run {run} is incomplete: it {how}.", run=side, how=run.incomplete)
            for side, run in (("A", comparison.first), ("B", comparison.second))
            if run.incomplete
        ),
        *(
            gettext("Run {run}: {rendering}.", run=side, rendering=run.rendering)
            for side, run in (("A", comparison.first), ("B", comparison.second))
            if run.rendering
        ),
        _settings(comparison),
        _why(comparison),
    ]
    return [sentence for sentence in found if sentence]


def _why(comparison: Comparison) -> str:
    """The command that finds the setting, where there can be one."""
    if comparison.ruling.status is not Status.FAILED or comparison.settings.same_engine:
        return ""
    runs = [comparison.first.name, comparison.second.name]
    command = shlex.join(["python", "-m", "runner.why", *runs])
    return gettext("To find the setting that makes B worse: {command}", command=command)


def leading_scores(comparison: Comparison) -> list[Scores]:
    """Return the scores of the leading metric of each task."""
    return [row for row in comparison.scores if row.leading]


def _questions(comparison: Comparison) -> str:
    rows = leading_scores(comparison)
    several = len(rows) > 1
    return " ".join(
        gettext("{metric}: {sentence}", metric=row.name, sentence=_changed(row))
        if several
        else _changed(row)
        for row in rows[:NAMED]
    )


def _changed(row: Scores) -> str:
    values = {
        "count": row.n,
        "asked": _asked(row),
        "worse": row.worse,
        "better": row.better,
        "test": test_name(row.test),
        "p": probability(row.p_adjusted),
        "detectable": amount(row.detectable, row.share, sign=False),
    }
    if row.repeated:
        return gettext(
            "Of {count} shared questions{asked}, {worse} got worse and {better} better on average "
            "({test}, {p}); detectable drop: {detectable} (80 % power).",
            **values,
        )
    return gettext(
        "Of {count} shared questions{asked}, {worse} got worse and {better} better ({test}, {p}); "
        "detectable drop: {detectable} (80 % power).",
        **values,
    )


def _asked(row: Scores) -> str:
    """` (8 samples each)` or ` (A 8 samples each, B 4)`; empty if both runs asked once."""
    first, second = row.samples
    if not row.repeated:
        return ""
    if first == second:
        return gettext(" ({samples} samples each)", samples=first)
    return ngettext(
        " (A {count} sample each, B {second})",
        " (A {count} samples each, B {second})",
        first,
        second=second,
    )


def _subjects(comparison: Comparison) -> str:
    rows = [row for row in comparison.scores if row.subject]
    hit = [row for row in rows if row.p_adjusted < ALPHA]
    if not rows or not comparison.flips:
        return ""
    if not hit:
        return gettext("No single subject is significantly worse.")
    hit.sort(key=lambda row: -row.drop)
    subjects = _listed([f"{row.task} ({bare(row.difference, row.share)})" for row in hit])
    told = [gettext("Significantly worse in {subjects}", subjects=subjects)]
    if spared := len(rows) - len(hit):
        told.append(
            gettext(
                "no significant drop in {spared} of {all} subjects", spared=spared, all=len(rows)
            )
        )
    return gettext("{clauses}.", clauses=gettext("; ").join(told))


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    named = gettext(", ").join(names[:NAMED])
    if len(names) <= NAMED:
        return named
    return gettext("{names} and {count} more", names=named, count=len(names) - NAMED)


def _kinds(comparison: Comparison) -> str:
    changed = sum(each.n for each in comparison.kinds)
    if all(each.kind is Kind.DRAWN for each in comparison.kinds):
        return ""
    several = sorted(comparison.kinds, key=lambda each: -each.n)
    causes = gettext(", ").join(map(_cause, several))
    if any(each.reason in ASKED_OTHERWISE for each in comparison.unpaired):
        return gettext(
            "{count} questions were asked or answered differently: {causes}.",
            count=changed,
            causes=causes,
        )
    return gettext(
        "{count} of {pairs} answers differ. Causes: {causes}.",
        count=changed,
        pairs=comparison.pairs,
        causes=causes,
    )


def _cause(each: KindCount) -> str:
    return gettext(NOISE.get(each.kind, CAUSE), cause=gettext(each.kind.value), count=each.n)


def _reported(comparison: Comparison) -> str:
    """The values that the runs report, if there are no pairs to score."""
    known = [each for each in comparison.reported if None not in (each.first, each.second)]
    if comparison.scores or not known:
        return ""
    values = gettext(", ").join(
        gettext(
            "{metric} {first:.3f} (A) and {second:.3f} (B)",
            metric=each.name,
            first=each.first,
            second=each.second,
        )
        for each in known
    )
    return gettext(
        "The runs report these values on questions that were asked differently: {values}.",
        values=values,
    )


def _unpaired(comparison: Comparison) -> str:
    counts = comparison.unpaired
    if not counts:
        return ""
    sides = (("A", comparison.first), ("B", comparison.second))
    limits = [
        gettext("{run} ran with {limit}", run=letter, limit=run.limited)
        for letter, run in sides
        if run.limited
    ]
    if not limits:
        return gettext(
            "Not paired: {reasons}; {pairs} pairs remain.",
            reasons=reasons(counts),
            pairs=comparison.pairs,
        )
    return gettext(
        "Not paired: {reasons} ({limits}); {pairs} pairs remain.",
        reasons=reasons(counts),
        limits=gettext(", ").join(limits),
        pairs=comparison.pairs,
    )


def _settings(comparison: Comparison) -> str:
    found = comparison.settings
    keys = [each.key for each in (*found.configuration, *found.engine, *found.environment)]
    if keys:
        return ngettext(
            "{count} setting or version differs: {names}.",
            "{count} settings or versions differ: {names}.",
            len(keys),
            names=_listed(keys),
        )
    if found.same_engine and found.same_evaluation:
        return gettext("No recorded setting, version or fingerprint differs between the runs.")
    return gettext(OTHER_FINGERPRINT[found.same_engine, found.same_evaluation])
