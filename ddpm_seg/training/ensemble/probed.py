"""Reads which steps and blocks a probe found informative, for `--tune` to begin with."""

from __future__ import annotations

import csv
import io

from ddpm_seg import storage
from ddpm_seg.model.features import FeatureConfig, NetworkBlocks
from ddpm_seg.training.ensemble.tuning import MOST_STEPS, Candidates

PROBE, MAX_BYTES = "probe.csv", 2**24
LEAST_SHARE = 0.5
"""A block is tried if its best score is at least this share of the best block's: worse ones hardly add to it."""


def probed_candidates(folder: str, network: NetworkBlocks) -> Candidates:
    """The four best steps, and the blocks that are good at one of the probe's steps, both ascending.

    `folder` is the output of jobs.probe. Raises ValueError for a file that is no probe's or is of a network with other
    steps or blocks, OSError if it is missing.
    """
    uri = storage.join(storage.normalize(folder), PROBE)
    try:
        rows = list(csv.DictReader(io.StringIO(storage.read_bytes(uri, max_bytes=MAX_BYTES).decode())))
        scores = {(int(row["step"]) if row["step"] else None, int(row["block"])): float(row["miou"]) for row in rows}
        highest = max(scores.values())
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{storage.redact(uri)} is not the table of a probe ({error}); run ddpm-seg probe") from None
    of_step, of_block = (_best(scores, part) for part in (0, 1))
    steps = sorted((step for step in of_step if step is not None), key=lambda step: (-of_step[step], step))[:MOST_STEPS]
    blocks = [block for block, score in of_block.items() if score >= LEAST_SHARE * highest]
    found = tuple(sorted(steps)), tuple(sorted(block for block in blocks if block is not None))
    FeatureConfig(steps=found[0], blocks=found[1]).check(network)
    return found


def _best(scores: dict[tuple[int | None, int], float], part: int) -> dict[int | None, float]:
    """The best score of each step (`part` 0) or block (1)."""
    return {place: max(s for key, s in scores.items() if key[part] == place) for place in {key[part] for key in scores}}
