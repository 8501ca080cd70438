"""Renders Avatars-10, the demonstration task: 64 x 64 avatars beside exact masks of their ten face parts.

    python -m jobs.avatars --output avatars                              # the fixed splits, each in its folder
    python -m jobs.avatars --output avatars --splits validation test    # some of them
    python -m jobs.avatars --output mine --num-images 100 --seed 9000   # a set of your own

Writes the published layout: 00000.png beside 00000.npy (uint8 class ids). The same seed gives the same bytes. Needs
`pip install 'ddpm_seg[avatars]'`. Art: Avataaars by Pablo Stanley (free for personal and commercial use), drawn by
python-avatars (MIT, by Ibon).
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
    """Fixed splits to render, each in a folder of its name under --output."""
    num_images: int | None = None
    """A set of your own instead, of so many pairs of picture and mask, straight in --output."""
    seed: int = 0
    """Of a set of your own. Picture i depends on (seed, i) alone: a larger set begins with the same pictures."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")

    def pairs(self) -> list[tuple[int, int, str]]:
        """(seed, index, folder) of every pair to render. Raises ValueError for a wrong number or an unknown split."""
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
