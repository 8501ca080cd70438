"""Starts two jobs with different options at the same time, on one cluster and with one output."""

from __future__ import annotations

import time

from tests.chaos.trial import DONE, Trial

LONGEST_APART_SECONDS = 3.0


def at_once(flags: tuple[str, ...], trial: Trial) -> bool:
    """Both must finish, each with its own rows; returns whether they worked at the same time."""
    rows = trial.references.of().rows | trial.references.of(*flags).rows
    with trial.attempt("--num-actors=1") as one:
        time.sleep(trial.generator.uniform(0, LONGEST_APART_SECONDS))
        with trial.attempt("--num-actors=1", *flags) as other:
            met = one.status is None
    for scene, own in ((one, ()), (other, flags)):
        if scene.status != DONE:
            trial.until_done("--num-actors=1", *own)
    trial.expect(rows, runs=2)
    return met
