"""The runs that a verdict compares with: the reference run, and replays of it on correct stacks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.config.schema import RunConfig
from runner.digest import digest_path
from runner.errors import UserError
from runner.evidence.samples import read_samples
from runner.messages import warn
from runner.plan import Plan, ReplayPlan
from runner.reference.locating import Located, locate, stored_noise
from runner.reference.reading import Reference, misfits, read
from runner.tracking.courier import Courier
from runner.verdict import Against
from runner.verdict.rule import Noise

NOISE = "verdict.replay.noise"


@dataclass(frozen=True)
class References:
    """A reference run, and the replays of it that show how much correct stacks differ."""

    run: Reference
    noise: tuple[Reference, ...] = ()

    def replay(self, config: RunConfig) -> ReplayPlan | None:
        """The answers to replay; None if the rule does not replay."""
        if config.verdict.rule != "replay":
            return None
        file = self.run.files.samples
        return ReplayPlan(str(file), digest_path(file), config.verdict.replay.way)

    def unfit(self, plan: Plan) -> list[str]:
        """Return why the runs can't be compared with a run of this plan."""
        return [*misfits(self.run, plan), *self._no_noise(plan.replay)]

    def _no_noise(self, replay: ReplayPlan | None) -> list[str]:
        found = []
        for each in self.noise if replay is not None else ():
            assert replay is not None
            if each.replayed != replay.digest:
                found.append(
                    f"{NOISE}={each.used.name}: not a replay of verdict.reference; run "
                    "verdict=replay with this reference run on a correct stack, and list that run"
                )
            elif each.way != replay.way:
                found.append(
                    f"{NOISE}={each.used.name}: replayed with verdict.replay.way={each.way}, but "
                    f"this run uses {replay.way}, which has noise of its own; list runs with "
                    f"verdict.replay.way={replay.way}"
                )
        return found

    def against(self, plan: Plan) -> Against:
        """Return the runs with their samples, in the form that a rule needs to judge `plan`.

        If samples can't be read any more, it warns and returns none, so no rule can pass.
        """
        try:
            noise = [
                Noise(each.used.name, read_samples(each.files.samples), each.doubts(plan))
                for each in self.noise
            ]
            return self.run.against(read_samples(self.run.files.samples), plan, noise)
        except UserError as error:
            warn("; ".join(error.problems))
            return self.run.against((), plan)


def find(config: RunConfig, courier: Courier) -> References | None:
    """Find and read the runs that the configuration names; None if it names none.

    Raises:
        UserError: if one is missing, or can't be a reference.
    """
    name, uri = config.verdict.reference, config.tracking.uri
    if not name:
        return None
    located = locate(name, uri, courier)
    run = read(name, located)
    noise = _noise(config, name, located, courier) if config.verdict.rule == "replay" else ()
    used = replace(run.used, noise=tuple(each.used for each in noise))
    return References(replace(run, used=used), noise)


def _noise(
    config: RunConfig, name: str, located: Located, courier: Courier
) -> tuple[Reference, ...]:
    """The noise runs that the configuration lists, else those stored with the reference run."""
    listed, uri = config.verdict.replay.noise, config.tracking.uri
    if listed is None:
        return ()
    names = listed or stored_noise(located, courier)
    try:
        runs = [read(each, locate(each, uri, courier, NOISE), NOISE) for each in names]
        return tuple({each.used.directory: each for each in runs}.values())  # each once
    except UserError as error:
        if listed:
            raise
        raise UserError(
            *error.problems,
            f"{NOISE}: these runs are stored with {name}; to store others, promote it again with "
            f"python -m runner.promote {located.run_id} --noise RUN ...; for this run, list others "
            f"in {NOISE}, or set it to null to use none",
        ) from error
