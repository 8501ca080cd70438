"""The fixed splits of Avatars-10: the seeds that all measurements in this project use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AvatarSplit:
    """Pictures 0 .. num_images - 1 of one seed (see `avatars.render`)."""

    seed: int
    num_images: int


AVATAR_SPLITS: dict[str, AvatarSplit] = {
    "unlabelled": AvatarSplit(0, 12_000),  # the DDPM is trained on these; their masks are not read
    "samples": AvatarSplit(3, 32),  # the pictures shipped with the package
    **{f"annotated-{n}": AvatarSplit(10 + n, 20) for n in range(1, 6)},  # for training an ensemble on each
    "validation": AvatarSplit(20, 200),  # for every choice: steps, blocks, when to stop
    "test": AvatarSplit(30, 500),  # for reported scores, and nothing else
    "plenty": AvatarSplit(40, 2_000),  # many annotated pictures, as the upper bound of the comparison
}
"""Each has its own seed, so no two share a picture."""

HELD_OUT_SEEDS = range(9_000, 10_000)
"""In no fixed split, so that others can judge its results on fresh pictures; of these seeds, some measurements in
tests/README.md use 9000."""
