"""Two jobs with different options begin together, on one cluster and into one output."""

from __future__ import annotations

import time

from tests.chaos.trial import DONE, Trial

LONGEST_APART_SECONDS = 3.0


def at_once(flags: tuple[str, ...], trial: Trial) -> bool:
    """Both get done, each with its own rows; whether both were at work at one time."""
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
