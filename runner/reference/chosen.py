"""Whether a reference run was the best of several runs, which makes unchanged runs fail."""

from __future__ import annotations

from runner.channel.sender import FindPeers
from runner.language import gettext
from runner.percent import percent
from runner.reference.locating import LOOKUP_S, Located
from runner.reference.reading import Reference
from runner.stats import ALPHA
from runner.stats.selection import false_failures
from runner.tracking.courier import Courier
from runner.tracking.metrics import metric_name
from runner.tracking.sender_process import NotSent


def best_of(run: Reference, located: Located, courier: Courier) -> str:
    """Return a warning if the run is the best of its repeats in MLflow; empty if it is not.

    A directory is used without MLflow. If MLflow does not answer, there is no warning: it changes
    no status.
    """
    if not located.uri or located.run_id is None:
        return ""
    directions = {
        metric_name(each): each.higher_is_better
        for task in run.outcome.tasks
        for each in task.metrics
        if each.task == task.task and each.higher_is_better is not None
    }
    try:
        runs = courier.ask(FindPeers(located.uri, located.run_id, directions), LOOKUP_S)
    except NotSent:
        return ""
    if not runs:
        return ""
    return gettext(
        "the reference run is the best of {count} runs of the same stack and evaluation in MLflow; "
        "against the best of {count}, up to {share} of unchanged runs are FAILED instead of "
        "{usual}; compare with all of them: verdict.reference=[{runs}]",
        count=len(runs),
        share=percent(false_failures(len(runs)), 0),
        usual=percent(ALPHA, 0),
        runs=",".join(runs),
    )
