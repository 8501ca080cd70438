"""Renders Avatars-10, the demonstration dataset: 64 x 64 avatars with exact masks of their ten face parts.

    # all fixed splits, each in its own folder
    ddpm-seg avatars --output avatars
    # only these splits
    ddpm-seg avatars --output avatars --splits validation test
    # a set of your own
    ddpm-seg avatars --output mine --num-images 100 --seed 9001

Writes an image, 00000.png, and a mask of class ids, 00000.npy (uint8), for each avatar: DDPM-Seg's published layout.
The same seed always gives the same bytes. Needs `pip install -e '.[avatars]'`. Art: Avataaars by Pablo Stanley
(free for personal and commercial use), drawn by python-avatars (MIT, by Ibon).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.command_line.run import run
from ddpm_seg.data.avatars.splits import AVATAR_SPLITS


@dataclass(frozen=True, kw_only=True, slots=True)
class AvatarsConfig:
    """Settings of `jobs.avatars`."""

    output: str
    """Folder or URI prefix to write to."""
    splits: tuple[str, ...] = tuple(AVATAR_SPLITS)
    """Fixed splits to render, each into a folder of that name under --output."""
    num_images: int | None = None
    """Instead of the fixed splits, render this many images with masks from --seed, directly into --output."""
    seed: int = 0
    """Random seed for --num-images. Image i depends only on the seed and i, so a larger set starts with the same
    images. The fixed splits have seeds of their own."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")

    def pairs(self) -> list[tuple[int, int, str]]:
        """(seed, index, folder) of each image to render. Raises ValueError for a wrong number or an unknown split."""
        if self.num_images is not None:
            check_least(self, num_images=1, seed=0)
            return [(self.seed, index, self.output) for index in range(self.num_images)]
        if unknown := [name for name in self.splits if name not in AVATAR_SPLITS]:
            raise ValueError(f"--splits {unknown[0]}: no such split; expected some of {', '.join(AVATAR_SPLITS)}")
        return [
            (AVATAR_SPLITS[name].seed, index, storage.join(self.output, name))
            for name in self.splits
            for index in range(AVATAR_SPLITS[name].num_images)
        ]


def main(argv: list[str] | None = None) -> int:
    return run(AvatarsConfig, _render, __doc__, argv)


def _render(config: AvatarsConfig) -> str:
    from ddpm_seg.data.avatars.files import write_pairs
    from ddpm_seg.data.avatars.render import check_installed

    pairs = config.pairs()
    check_installed()
    storage.check_writable(config.output)
    write_pairs(pairs)
    return f"{len(pairs)} pairs of X.png and X.npy in {config.output}"


if __name__ == "__main__":
    sys.exit(main())
