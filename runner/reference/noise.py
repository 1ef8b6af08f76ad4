"""Replays of a reference run on correct stacks: how much correct stacks differ."""

from __future__ import annotations

from collections.abc import Sequence

from runner.config.schema import RunConfig
from runner.evidence.samples import read_samples
from runner.reference.locating import locate
from runner.reference.reading import Reference, read
from runner.tracking.courier import Courier
from runner.verdict.rule import Noise

KEY = "verdict.replay.noise"


def read_noise(config: RunConfig, courier: Courier) -> list[Reference]:
    """Read all runs of `verdict.replay.noise`.

    Raises:
        UserError: if one is missing or incomplete.
    """
    return [
        read(name, locate(name, config.tracking.uri, courier, KEY), KEY)
        for name in config.verdict.replay.noise
    ]


def unfit(noise: Sequence[Reference], script_digest: str) -> list[str]:
    """Return which of the runs are no replays of the reference run."""
    return [
        f"{KEY}={each.used.name}: the run did not replay verdict.reference; replay it with "
        "verdict.rule=replay on a correct stack"
        for each in noise
        if each.script_digest != script_digest
    ]


def noise_of(noise: Sequence[Reference]) -> list[Noise]:
    """Return the runs with their samples in the form that the rule needs.

    Raises:
        UserError: if samples can no longer be read.
    """
    return [Noise(each.used.name, read_samples(each.files.samples)) for each in noise]
