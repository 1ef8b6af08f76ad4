"""The runs that a verdict compares with: reference runs, and noise runs on correct stacks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.config.schema import RunConfig
from runner.config.verdict import POOLING_RULES
from runner.digest import digest_path
from runner.errors import UserError
from runner.evidence.likeliest import with_likeliest
from runner.evidence.samples import read_samples
from runner.messages import warn
from runner.plan import Plan, ReplayPlan
from runner.reference.chosen import best_of
from runner.reference.drawn import drawn
from runner.reference.locating import Located, locate, stored_noise
from runner.reference.reading import Reference, misfits, read
from runner.tracking.courier import Courier
from runner.verdict import Against
from runner.verdict.rule import Noise, rules_used


@dataclass(frozen=True)
class References:
    """A reference run, and the noise runs that show how much correct stacks differ from it.

    `others` are further reference runs, pooled with it. `best_of` is a warning for one that was
    chosen among several (runner/reference/chosen.py).
    """

    run: Reference
    noise: tuple[Reference, ...] = ()
    others: tuple[Reference, ...] = ()
    best_of: str = ""

    def replay(self, config: RunConfig) -> ReplayPlan | None:
        """The answers to replay; None if the rule does not replay."""
        if config.verdict.rule != "replay":
            return None
        file = self.run.files.samples
        replay = config.verdict.replay
        digest = digest_path(file)
        if replay.draw is None:
            return ReplayPlan(str(file), digest, replay.way, dict(replay.questions))
        names = ("", *config.task.names)  # older runs did not record it
        samples = [each for each in read_samples(file) if each.evaluation in names]
        questions = drawn(samples, replay.draw, digest)
        return ReplayPlan(str(file), digest, replay.way, questions, drawn=True)

    def unfit(self, plan: Plan) -> list[str]:
        """Return why the runs can't be compared with a run of this plan."""
        found = [line for each in (self.run, *self.others) for line in misfits(each, plan)]
        return [*found, *self._no_noise(plan)]

    def _no_noise(self, plan: Plan) -> list[str]:
        replay, key = plan.replay, _key("replay")
        if replay is None:
            return [line for each in self.noise for line in _no_ordinary(each, plan)]
        found = []
        for each in self.noise:
            if each.replayed != replay.digest:
                found.append(
                    f"{key}={each.used.name}: not a replay of verdict.reference; run "
                    "verdict=replay with this reference run on a correct stack, and list that run"
                )
            elif each.way != replay.way:
                found.append(
                    f"{key}={each.used.name}: replayed with verdict.replay.way={each.way}, but "
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
                Noise(
                    each.used.name,
                    read_samples(each.files.samples),
                    each.doubts(plan),
                    str(each.outcome.engine.get("dtype", "")),
                )
                for each in self.noise
            ]
            first, *others = (
                each.against(read_samples(each.files.samples), plan)
                for each in (self.run, *self.others)
            )
            if plan.replay is not None:
                recorded = with_likeliest(first.samples, self.run.files.likeliest)
                first = replace(first, samples=recorded)
            return replace(first, noise=noise, others=others, best_of=self.best_of)
        except UserError as error:
            warn("; ".join(error.problems))
            return self.run.against((), plan)


def find(config: RunConfig, courier: Courier) -> References | None:
    """Find and read the runs that the configuration names; None if it names none.

    Raises:
        UserError: if one is missing, or can't be a reference.
    """
    names, uri = config.verdict.references, config.tracking.uri
    if not names:
        return None
    found: dict[str, tuple[Reference, Located]] = {}
    for name in names:
        located = locate(name, uri, courier)
        run = read(name, located)
        found.setdefault(run.used.run_id or run.used.directory, (run, located))  # each once
    (run, located), *more = found.values()
    others = tuple(each for each, _ in more)
    noise = _noise(config, names[0], located, courier)
    used = replace(
        run.used,
        noise=tuple(each.used for each in noise),
        others=tuple(each.used for each in others),
    )
    pooling = rules_used(config.verdict).intersection(POOLING_RULES)
    warning = best_of(run, located, courier) if pooling and not others else ""
    return References(replace(run, used=used), noise, others, warning)


def _noise(
    config: RunConfig, name: str, located: Located, courier: Courier
) -> tuple[Reference, ...]:
    """The noise runs that the configuration lists, else those stored with the reference run.

    Of the stored ones, a rule takes those of its kind: replays, or ordinary runs.
    """
    rule, uri = config.verdict.rule, config.tracking.uri
    settings, key = config.verdict.by_noise.get(rule), _key(rule)
    if settings is None or settings.noise is None:
        return ()
    listed = settings.noise
    names = listed or stored_noise(located, courier, key)
    try:
        runs = [read(each, locate(each, uri, courier, key), key) for each in names]
        once = {each.used.directory: each for each in runs}.values()
        return tuple(e for e in once if listed or bool(e.replayed) is (rule == "replay"))
    except UserError as error:
        if listed:
            raise
        raise UserError(
            *error.problems,
            f"{key}: these runs are stored with {name}; to store others, promote it again with "
            f"python -m runner.promote {located.run_id} --noise RUN ...; for this run, list others "
            f"in {key}, or set it to null to use none",
        ) from error


def _no_ordinary(run: Reference, plan: Plan) -> list[str]:
    """Why the run is no noise for a run of this plan that is no replay."""
    key = _key("numerics")
    if run.replayed:
        return [
            f"{key}={run.used.name}: the run is a replay, which is noise for verdict=replay only; "
            "list runs on correct stacks that answered the same questions themselves"
        ]
    return misfits(run, plan, key)


def _key(rule: str) -> str:
    return f"verdict.{rule}.noise"
