"""What reports say about a run's server."""

from __future__ import annotations

from collections.abc import Iterator

from runner.language import N_, gettext, translated
from runner.percent import percent
from runner.served import Latency, Served, ServerWork

# The checks of `Health` as a heading names them.
CHECKS = {"repeatability": N_("Repeatability"), "cross-talk": N_("Cross-talk")}


def serving(served: Served | None, command: bool = True) -> list[tuple[str, str]]:
    """Return a name and a sentence for each thing known of the server; empty without one.

    Without `command`, the server's command is left out: it is too long for a terminal.
    """
    return [] if served is None else list(_lines(served, command))


def _lines(served: Served, command: bool) -> Iterator[tuple[str, str]]:
    parts = [
        gettext("version {version}", version=served.version)
        if served.version
        else gettext("of unknown version"),
        gettext("model {model}", model=served.model),
    ]
    if served.weights not in (None, served.model):
        parts.append(gettext("loaded from {weights}", weights=served.weights))
    yield gettext("Server"), gettext(", ").join(parts)
    if served.command and command:
        yield gettext("Started as"), served.command
    if served.identity:
        yield gettext("Identity"), served.identity
    if served.health is not None:
        for name, check in served.health.checks.items():
            yield gettext(CHECKS[name]), f"{check.status.value}: {check.reason}"
    if served.latency is not None:
        yield gettext("Latency"), _latency(served.latency, served.work)
    if (first := served.first_token) is not None:
        yield (
            gettext("First token"),
            gettext(
                "median {p50:.3g} s, 90 % within {p90:.3g} s (streamed copies of {count} requests)",
                p50=first.p50,
                p90=first.p90,
                count=first.requests,
            ),
        )
    if (speed := served.speed) is not None:
        yield (
            gettext("Tokens/s of a request"),
            gettext(
                "median {p50:.3g}, 90 % at least {p10:.3g}, 99 % at least {p1:.3g}",
                p50=speed.p50,
                p10=speed.p10,
                p1=speed.p1,
            ),
        )
    if served.work is not None:
        yield gettext("Server load"), _work(served.work)
    if served.retried:
        failures = ", ".join(f"{count} × {kind}" for kind, count in served.retried.items())
        yield gettext("Retried requests"), failures
    if unsure := _unsure(served):
        yield gettext("Not known"), unsure


def _latency(latency: Latency, work: ServerWork | None) -> str:
    said = gettext(
        "median {p50:.3g} s, 90 % within {p90:.3g} s, 99 % within {p99:.3g} s, longest "
        "{longest:.3g} s",
        p50=latency.p50,
        p90=latency.p90,
        p99=latency.p99,
        longest=latency.longest,
    )
    if work is None or work.first_token_s is None:
        return said
    if work.later_token_s is None:
        first = gettext(
            "on average the first token after {seconds:.3g} s", seconds=work.first_token_s
        )
    else:
        first = gettext(
            "on average the first token after {seconds:.3g} s and each later one after "
            "{later:.3g} ms",
            seconds=work.first_token_s,
            later=1000 * work.later_token_s,
        )
    return gettext("; ").join([said, first])


def _work(work: ServerWork) -> str:
    parts = []
    if work.prompt_tokens is not None:
        hits, count = work.prefix_hit_rate, work.prompt_tokens
        parts.append(
            gettext("{count:,} prompt tokens", count=count)
            if hits is None
            else gettext(
                "{count:,} prompt tokens ({share} from the prefix cache)",
                count=count,
                share=percent(hits),
            )
        )
    if work.generation_tokens is not None:
        parts.append(gettext("{count:,} generated tokens", count=work.generation_tokens))
    if work.preemptions is not None:
        parts.append(gettext("{count} preemptions", count=work.preemptions))
    if work.finished:
        ended = ", ".join(f"{reason} {count}" for reason, count in work.finished.items())
        parts.append(gettext("finished by: {reasons}", reasons=ended))
    if work.speculation is not None:
        parts.append(work.speculation.said)
    said = gettext("; ").join(parts)
    if not work.restarted:
        return said
    return gettext("{said} (counters restarted during the run)", said=said)


def _unsure(served: Served) -> str:
    parts = [
        gettext("{count} answers without {what}", count=count, what=translated(what))
        for what, count in served.missing.items()
    ]
    if served.unverified:
        parts.append(served.not_compared)
    return gettext("; ").join(parts)
