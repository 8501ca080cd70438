"""The fixed splits of Avatars-10: which seed every measurement in this project drew its pictures from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AvatarSplit:
    """Pictures 0 .. num_images - 1 of one seed (see `avatars.render`)."""

    seed: int
    num_images: int


AVATAR_SPLITS: dict[str, AvatarSplit] = {
    "unlabelled": AvatarSplit(0, 12_000),  # what the DDPM is trained on; its masks are not read
    "samples": AvatarSplit(3, 32),  # the pictures that come with the package
    **{f"annotated-{n}": AvatarSplit(10 + n, 20) for n in range(1, 6)},  # each to train an ensemble on
    "validation": AvatarSplit(20, 200),  # every choice: steps, blocks, when to stop
    "test": AvatarSplit(30, 500),  # what is reported, and nothing else
    "plenty": AvatarSplit(40, 2_000),  # annotated pictures for the ceiling of the comparison
}
"""No two share a seed, so no two share a picture's random numbers."""

HELD_OUT_SEEDS = range(9_000, 10_000)
"""Never rendered by anything in this repository: fresh pictures for anyone who wants to judge what comes out of it."""
