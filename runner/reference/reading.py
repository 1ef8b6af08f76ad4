"""Read a reference run and check that it is complete and comparable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import UserError
from runner.evidence.samples import Sample
from runner.language import ENGLISH, N_, gettext, speaking
from runner.outcome import Outcome, State
from runner.plan import Plan
from runner.reference import requests, standing
from runner.reference.locating import KEY, NEEDED, Located
from runner.rundir import RunDirectory, read_json
from runner.verdict import Against, ReferenceUsed
from runner.verdict.doubts import doubts_of
from runner.verdict.result import Verdict
from runner.verdict.rule import THE_REFERENCE, THE_RUN

# Columns that identify a sample, whatever its filters; and a row, which is a sample under a filter.
SAMPLE = ("evaluation", "task", "doc_id", "repeat")
ROW = (*SAMPLE, "filter")
# A noise run in a sentence.
NOISE_RUN = "the noise run"
QUESTION = ("evaluation", "task", "doc_id")


@dataclass(frozen=True)
class Reference:
    """A run that can be judged against: complete, and with its samples."""

    used: ReferenceUsed
    files: RunDirectory
    outcome: Outcome
    asked: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    weights: str = ""
    # Digest of the samples that it replayed, and the way; empty if it was no replay.
    replayed: str = ""
    way: str = ""

    def against(self, samples: Sequence[Sample], plan: Plan) -> Against:
        """Return the reference and its samples in the form that a rule needs to judge `plan`."""
        limits = {task: asked.get("limit") for task, asked in self.asked.items()}
        return Against(self.used, self.outcome, samples, limits, self.doubts(plan))

    def doubts(self, plan: Plan) -> list[str]:
        """Return why a run of this plan should not be judged by this run."""
        doubts = (
            standing.judged(self.used.status),
            standing.other_model(self.used.model, plan.model, self.weights, plan.weights),
        )
        return [*filter(None, doubts)]


@speaking(ENGLISH)
def read(name: str, located: Located, key: str = KEY) -> Reference:
    """Read a run as a reference, and reject it now if it cannot be one.

    `key` is the setting that names the run.

    Raises:
        UserError: if it did not finish, is incomplete, or has left no samples.
    """
    files = RunDirectory(located.directory)
    for file in NEEDED:
        if not (located.directory / file).is_file():
            raise UserError(
                f"{key}={name}: {located.directory} has no {file}; give the directory of a "
                "completed run"
            )
    try:
        plan = json.loads(files.plan.read_text(encoding="utf-8"))
        outcome: Outcome = read_json(files.outcome, Outcome)
        verdict: Verdict | None = (
            read_json(files.verdict, Verdict) if files.verdict.is_file() else None
        )
        used = ReferenceUsed(
            name=name,
            directory=str(located.directory),
            run_id=located.run_id,
            model=plan["model"],
            platform=plan["platform"],
            layout=_layout(plan),
            engine_fingerprint=plan["engine_fingerprint"],
            evaluation_fingerprint=plan["evaluation_fingerprint"],
            status=verdict.status.value if verdict is not None else "",
        )
        # Plans of earlier versions have one set of generation settings for all tasks.
        earlier = {"gen_kwargs": plan.get("gen_kwargs", {})}
        asked = {each["task"]: earlier | each for each in plan["evaluations"]}
        settings = {name: plan[name] for name in requests.OF_PLAN}
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{key}={name}: cannot be read as a run of this runner ({said})") from error
    broken = incomplete(outcome) or miscounted(files, outcome)
    if broken:
        raise UserError(*(f"{key}={name}: {line}" for line in broken))
    replay = plan.get("replay") or {}
    return Reference(
        used,
        files,
        outcome,
        asked,
        settings,
        plan.get("weights", ""),
        replay.get("digest", ""),
        replay.get("way", ""),
    )


def incomplete(outcome: Outcome) -> list[str]:
    """Return why a run's scores are incomplete; empty if they are complete."""
    if outcome.state is not State.COMPLETED:
        return [
            gettext(
                "the run ended with {state}: {reason}",
                state=outcome.state.value,
                reason=outcome.reason,
            )
        ]
    if not outcome.tasks:
        return [gettext("the run evaluated nothing")]
    return [
        gettext("of {task}, {doubts}", task=task.task, doubts=doubts)
        for task in outcome.tasks
        if (doubts := doubts_of(task, task.evaluated))
    ]


def miscounted(files: RunDirectory, outcome: Outcome) -> list[str]:
    """Return why the file of samples does not hold what the run counted, each sample once.

    Answers are left unread.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(files.samples) as stored:
            # Files of older versions, which asked each question once, have no repeats.
            known = [name for name in ROW if name in stored.schema_arrow.names]
            rows = stored.read(columns=known).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        why = str(error).splitlines()[0]
        return [gettext("{file}: cannot be read ({error})", file=files.samples, error=why)]
    copies = Counter(tuple(row.values()) for row in rows)
    if more := [row for row, count in copies.items() if count > 1]:
        named = zip(known, more[0], strict=True)
        example = ", ".join(f"{name} {value}" for name, value in named if value != "")
        return [
            gettext(
                "{file} has {count} samples more than once (for example {example}), so it is not "
                "what the run wrote; choose another run",
                file=files.samples,
                count=len(more),
                example=example,
            )
        ]
    samples, questions = (
        {tuple(row[name] for name in names if name in row) for row in rows}
        for names in (SAMPLE, QUESTION)
    )
    for kept, counted, said in (
        (
            samples,
            sum(task.scored for task in outcome.tasks),
            N_("{file} has {count} samples, but the run counted {counted}"),
        ),
        (
            questions,
            sum(task.evaluated for task in outcome.tasks),
            N_("{file} has {count} questions, but the run counted {counted}"),
        ),
    ):
        if len(kept) != counted:
            return [gettext(said, file=files.samples, count=len(kept), counted=counted)]
    return []


@speaking(ENGLISH)
def misfits(reference: Reference, plan: Plan, key: str = KEY) -> list[str]:
    """Return the settings that make a comparison with this plan invalid.

    `key` is the setting that names the run.
    """
    name = f"{key}={reference.used.name}"
    run = gettext(THE_REFERENCE) if key == KEY else NOISE_RUN
    found = []
    if reference.replayed:
        found.append(
            f"{name}: the run is a replay, whose answers are those of another run; choose the run "
            "that it replayed"
        )
    found += [f"{name}: {line}" for line in asked_otherwise(reference, plan, run, THE_RUN)]
    for each in plan.evaluations:
        limit = reference.asked.get(each.task, {}).get("limit")
        drawn = plan.replay is not None and plan.replay.drawn  # from what it was asked
        if _smaller(limit, each.limit) and not drawn:
            found.append(
                f"{name}: evaluated {each.task} with limit={limit:g}, but this run "
                f"evaluates {'all' if each.limit is None else format(each.limit, 'g')}: set "
                f"task.limit={limit:g}, or choose a run with as many questions"
            )
    wanted = {each.task for each in plan.evaluations}
    found += [
        f"{name}: the run stopped early, after {task.expected} of {task.whole} {task.unit} of "
        f"{task.task} (verdict.sequential); choose a complete run, or ask its other questions with "
        "verdict.sequential=false and journal.continues, and use that run"
        for task in reference.outcome.tasks
        if not task.look.last and task.task in wanted
    ]
    return found


@speaking(ENGLISH)
def asked_otherwise(reference: Reference, plan: Plan, first: str, second: str) -> list[str]:
    """Return why a run's requests are not those of this plan, apart from their number.

    `first` and `second` are the run and the plan in a sentence.
    """
    found = []
    for each in plan.evaluations:
        asked = reference.asked.get(each.task)
        if asked is None or each.task not in {task.task for task in reference.outcome.tasks}:
            known = ", ".join(reference.asked)
            found.append(f"the run did not evaluate {each.task}, only {known}")
        else:
            found += requests.of_task(asked, each, first, second)
    return [*found, *requests.of_plan(reference.settings, plan, first, second)]


def _smaller(theirs: float | None, ours: float | None) -> bool:
    """Whether the reference was surely asked fewer samples; shares and counts don't compare."""
    if theirs is None:
        return False
    if ours is None:
        return True
    return (theirs < 1) == (ours < 1) and theirs < ours


def _layout(plan: dict[str, Any]) -> str:
    args = plan["engine_args"]
    return f"TP{args.get('tensor_parallel_size', 1)}, {args.get('dtype', 'auto')}"
