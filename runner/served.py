"""What a server did in a run: its own counters, and what its client saw."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.language import N_, gettext
from runner.percent import percent
from runner.status import Status

# Metrics of speculative decoding, as baselines name them.
OF_SPECULATION = ACCEPTANCE_RATE, ACCEPTED_LENGTH = "acceptance_rate", "accepted_length"


@dataclass(frozen=True)
class Speculation:
    """Speculative decoding: tokens drafted and accepted; `by_position` counts accepted tokens."""

    drafts: int
    drafted: int
    accepted: int
    by_position: tuple[int, ...] = ()

    @property
    def acceptance_rate(self) -> float | None:
        """The accepted share of the drafted tokens."""
        return self.accepted / self.drafted if self.drafted else None

    @property
    def accepted_length(self) -> float | None:
        """Mean number of tokens that each step of the model gave, its own included."""
        return 1 + self.accepted / self.drafts if self.drafts else None

    @property
    def said(self) -> str:
        """A one-line summary."""
        if self.acceptance_rate is None:
            return gettext("no tokens drafted")
        return gettext(
            "{share} of {drafted:,} drafted tokens accepted, {length:.2f} tokens per step",
            share=percent(self.acceptance_rate),
            drafted=self.drafted,
            length=self.accepted_length,
        )


@dataclass(frozen=True)
class ServerWork:
    """The server's counts of its work in a run, all engines and all clients together.

    `finished` has the number of requests by finish reason. A count is None if the server has no
    such metric. Seconds are means per request, or per token after the first. `restarted` says that
    the counters began anew, so they miss what came before.
    """

    preemptions: int | None
    prefix_queries: int | None
    prefix_hits: int | None
    prompt_tokens: int | None
    generation_tokens: int | None
    finished: dict[str, int] = field(default_factory=dict)
    speculation: Speculation | None = None
    queued_s: float | None = None
    first_token_s: float | None = None
    later_token_s: float | None = None
    restarted: bool = False

    @property
    def prefix_hit_rate(self) -> float | None:
        """The share of prompt tokens that were found in the prefix cache."""
        if not self.prefix_queries or self.prefix_hits is None:
            return None
        return self.prefix_hits / self.prefix_queries


@dataclass(frozen=True)
class Latency:
    """Seconds from sending a request to its complete answer: percentiles over all requests."""

    p50: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True)
class FirstToken:
    """Seconds until the first token of a stream: percentiles over a sample of requests."""

    p50: float
    p90: float
    requests: int


@dataclass(frozen=True)
class Speed:
    """Tokens per second of single requests: 50, 90 and 99 % of the requests reach these."""

    p50: float
    p10: float
    p1: float


@dataclass(frozen=True)
class Check:
    """The result of one check of a server (docs/probe.md): PASSED, FAILED or INCONCLUSIVE."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Health:
    """Checks of a running server before the evaluation. `requests` were sent for them."""

    repeatability: Check
    crosstalk: Check
    requests: int

    @property
    def checks(self) -> dict[str, Check]:
        """The checks by their names in docs; reports call them so after `gettext`."""
        return {N_("repeatability"): self.repeatability, N_("cross-talk"): self.crosstalk}


@dataclass(frozen=True)
class Served:
    """What a server says of itself, and the requests of one run.

    `command` started it; empty for a server that was already running. `retried` counts failed
    attempts by kind. `different` counts prompts that the server tokenised differently than an
    engine in the worker would, `first_difference` describes the first, `unverified` counts prompts
    whose tokens the server did not tell. `shortened` counts answers that ended at a token limit
    below the requested one, `reasoned` those whose reasoning the server returned apart although the
    model has no `think_end_token`. `answered_by` counts answers by model name and fingerprint,
    `missing` the parts that answers lacked. `identity` says whether the server tokenizes like the
    configured model. `health` has the other checks of a server that was already running; None if
    they were not made.
    """

    version: str | None
    model: str
    weights: str | None
    command: str
    asked: int
    answered: int
    retried: dict[str, int] = field(default_factory=dict)
    different: int = 0
    first_difference: str = ""
    unverified: int = 0
    shortened: int = 0
    reasoned: int = 0
    answered_by: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    identity: str = ""
    health: Health | None = None
    latency: Latency | None = None
    first_token: FirstToken | None = None
    speed: Speed | None = None
    work: ServerWork | None = None

    @property
    def rendered_differently(self) -> str:
        """How many prompts the server rendered differently, and how the first one."""
        return gettext(
            "the server rendered {different} of {answered} prompts differently ({difference})",
            different=self.different,
            answered=sum(self.answered_by.values()) or self.answered,
            difference=self.first_difference,
        )

    @property
    def not_compared(self) -> str:
        """How many prompts could not be compared with the rendering of an engine in the worker."""
        return gettext(
            "the server does not say how it rendered {count} prompts, so chat templates and "
            "images could not be compared",
            count=self.unverified,
        )

    @property
    def doubts(self) -> list[str]:
        """Reasons why the answers may not be those of the configured engine to these prompts."""
        found = [self.rendered_differently] if self.different else []
        if len(self.answered_by) > 1:
            found.append(
                gettext(
                    "the answers came from {count} different engines: {engines}",
                    count=len(self.answered_by),
                    engines=", ".join(self.answered_by),
                )
            )
        if self.shortened:
            found.append(
                gettext(
                    "{count} answers ended before the requested number of tokens",
                    count=self.shortened,
                )
            )
        if self.reasoned:
            found.append(
                gettext(
                    "the server took the reasoning out of {count} answers, but the baseline may "
                    "have been measured with it; if it was measured without, set "
                    "model.think_end_token",
                    count=self.reasoned,
                )
            )
        if self.health is not None:
            found += [
                gettext(
                    "the server failed the {name} check before the evaluation ({reason})",
                    name=gettext(name),
                    reason=check.reason,
                )
                for name, check in self.health.checks.items()
                if check.status is Status.FAILED
            ]
        return found
