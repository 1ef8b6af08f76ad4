"""The settings that runs of one series share: what the fingerprints cover, apart from versions and
the content of files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from runner.plan import PLACES, Plan
from runner.variables import moving

# Engine arguments that say where files and servers are.
ELSEWHERE = (*PLACES, "server")
NOT_SETTINGS = ("task", "baselines", "baseline_limit", "origins")
# A setting without a value is the same as one that an older version did not record. One that is
# False is not: many are on if nothing is said.
UNSET = frozenset(("None", "", "{}"))
DEFAULTS = {"samples": "1", "runtime": "vllm"}
# Names of the axes of a sweep begin so among the settings.
AXIS = "sweep."


def settings(plan: Plan, swept: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a run that have a value; `swept` are its `axes`."""
    arguments = {name: each for name, each in plan.engine_args.items() if name not in ELSEWHERE}
    asked: dict[str, Any] = {}
    for evaluation in plan.evaluations:
        for name, value in vars(evaluation).items():
            if name not in NOT_SETTINGS:
                key = name if len(plan.evaluations) == 1 else f"{evaluation.task}.{name}"
                asked[key] = value
    values = {
        "platform": plan.platform,
        "backend": plan.backend,
        "runtime": plan.runtime,
        "rule": "replay" if plan.replay is not None else None,
        "replay.way": plan.replay.way if plan.replay is not None else None,
        "task.seed": plan.seed,
        "system_instruction": plan.system_instruction,
        **_flat(arguments),
        **{f"env.{name}": value for name, value in moving(plan.environment).items()},
        **_flat(asked),
        **swept,
    }
    texts = {name: str(value) for name, value in values.items()}
    return {name: text for name, text in texts.items() if matters(name, text)}


def matters(name: str, text: str) -> bool:
    """Return whether a setting has a value other than its default."""
    return text not in UNSET and text != DEFAULTS.get(name)


def axes(plan: Plan, point: str) -> dict[str, str]:
    """Return the places that distinguish a run from other points of its sweep.

    A place is no setting otherwise, because it differs between machines. `point` is its name, such
    as `pretrained=/weights/a tp=2`.
    """
    places = {
        "pretrained": plan.engine_args.get("pretrained"),
        "tokenizer": plan.engine_args.get("tokenizer"),
        "python": plan.python,
        "include_path": plan.include_path,
        "data_dir": plan.data_dir,
    }
    named = {word.partition("=")[0] for word in point.split() if "=" in word}
    return {f"{AXIS}{name}": str(value) for name, value in places.items() if name in named}


def settings_digest(plan: Plan, swept: Mapping[str, str]) -> str:
    """Return a digest of all settings."""
    text = json.dumps(settings(plan, swept), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found
