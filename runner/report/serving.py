"""What reports say about a run's server."""

from __future__ import annotations

from collections.abc import Iterator

from runner.percent import percent
from runner.served import Latency, Served, ServerWork

# Its command is too long for a terminal.
STARTED_AS = "Started as"


def serving(served: Served | None) -> list[tuple[str, str]]:
    """Return a name and a sentence for each thing known of the server; empty without one."""
    return [] if served is None else list(_lines(served))


def _lines(served: Served) -> Iterator[tuple[str, str]]:
    weights = (
        f", loaded from {served.weights}" if served.weights not in (None, served.model) else ""
    )
    version = f"version {served.version}" if served.version else "of unknown version"
    yield "Server", f"{version}, model {served.model}{weights}"
    if served.command:
        yield STARTED_AS, served.command
    if served.identity:
        yield "Identity", served.identity
    if served.health is not None:
        for name, check in served.health.checks.items():
            yield name.capitalize(), f"{check.status.value}: {check.reason}"
    if served.latency is not None:
        yield "Latency", _latency(served.latency, served.work)
    if (first := served.first_token) is not None:
        yield (
            "First token",
            f"median {first.p50:.3g} s, 90 % within {first.p90:.3g} s (streamed copies of "
            f"{first.requests} requests)",
        )
    if (speed := served.speed) is not None:
        yield (
            "Tokens/s of a request",
            f"median {speed.p50:.3g}, 90 % at least {speed.p10:.3g}, 99 % at least {speed.p1:.3g}",
        )
    if served.work is not None:
        yield "Server load", _work(served.work)
    if served.retried:
        failures = ", ".join(f"{count} × {kind}" for kind, count in served.retried.items())
        yield "Retried requests", failures
    if unsure := _unsure(served):
        yield "Not known", unsure


def _latency(latency: Latency, work: ServerWork | None) -> str:
    said = (
        f"median {latency.p50:.3g} s, 90 % within {latency.p90:.3g} s, 99 % within "
        f"{latency.p99:.3g} s, longest {latency.longest:.3g} s"
    )
    if work is not None and work.first_token_s is not None:
        said += f"; on average the first token after {work.first_token_s:.3g} s"
        if work.later_token_s is not None:
            said += f" and each later one after {1000 * work.later_token_s:.3g} ms"
    return said


def _work(work: ServerWork) -> str:
    parts = []
    if work.prompt_tokens is not None:
        hits = work.prefix_hit_rate
        cached = f" ({percent(hits)} from the prefix cache)" if hits is not None else ""
        parts.append(f"{work.prompt_tokens:,} prompt tokens{cached}")
    if work.generation_tokens is not None:
        parts.append(f"{work.generation_tokens:,} generated tokens")
    if work.preemptions is not None:
        parts.append(f"{work.preemptions} preemptions")
    if work.finished:
        ended = ", ".join(f"{reason} {count}" for reason, count in work.finished.items())
        parts.append(f"finished by: {ended}")
    if work.speculation is not None:
        parts.append(work.speculation.said)
    others = " (counters restarted during the run)" if work.restarted else ""
    return "; ".join(parts) + others


def _unsure(served: Served) -> str:
    parts = [f"{count} answers without {what}" for what, count in served.missing.items()]
    if served.unverified:
        parts.append(
            f"the server does not say how it rendered {served.unverified} prompts, so chat "
            "templates and images could not be compared"
        )
    return "; ".join(parts)
