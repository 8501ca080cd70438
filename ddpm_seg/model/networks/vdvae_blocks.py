"""The published notation for a VDVAE's blocks: `256x3,256d2,128x8` and `1x2,4m1,4x3`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

from ddpm_seg.model.json_values import shown
from ddpm_seg.model.limits import MAX_DEPTH, MAX_IMAGE_SIZE, check_range

BlocksField = Literal["enc_blocks", "dec_blocks"]

_NUMBER = "[1-9][0-9]{0,4}"


class EncoderLayer(NamedTuple):
    """One encoder block: it works at `resolution`, and its output is pooled by the factor `pool`."""

    resolution: int
    pool: int

    @property
    def output(self) -> int:
        """Resolution of its output."""
        return self.resolution // self.pool


class DecoderLayer(NamedTuple):
    """One decoder block at `resolution`; if `mixin` is given, it first adds the state of that resolution."""

    resolution: int
    mixin: int | None


def parse_blocks(name: BlocksField, text: str) -> list[tuple[int, int | None]]:
    """For each block that `text` lists: its resolution, and its pooling factor (encoder) or the resolution it mixes in
    (decoder), or None.

    Raises ValueError with the field's `name`.
    """
    letter = {"enc_blocks": "d", "dec_blocks": "m"}[name]
    blocks: list[tuple[int, int | None]] = []
    for part in text.split(","):
        match = re.fullmatch(rf"({_NUMBER})(?:([x{letter}])({_NUMBER}))?", part.strip())
        if match is None:
            raise ValueError(f"{name}: {shown(part)}; expected blocks between commas, as 8, 8x3 or 8{letter}2")
        resolution, number = int(match[1]), int(match[3] or 1)
        count = 1 if match[2] == letter else number
        check_range(f"resolution in {name}", resolution, MAX_IMAGE_SIZE)
        check_range(f"number of blocks in {name}", len(blocks) + count, MAX_DEPTH)
        blocks += [(resolution, number if match[2] == letter else None)] * count
    return blocks


def kernel_size(resolution: int) -> int:
    """Side of the kernels that see neighbours; maps of 1 x 1 and 2 x 2 pixels have no neighbours."""
    return 3 if resolution > 2 else 1


def encoder_layers(enc_blocks: str, image_size: int) -> list[EncoderLayer]:
    """The encoder's blocks in order.

    Raises ValueError if a block does not work at the resolution of the previous block's output.
    """
    layers = [EncoderLayer(resolution, pool or 1) for resolution, pool in parse_blocks("enc_blocks", enc_blocks)]
    given, giver = image_size, "image_size is"
    for layer in layers:
        if layer.resolution != given:
            raise ValueError(f"enc_blocks {enc_blocks}: a block at {layer.resolution}, but {giver} {given}")
        if layer.resolution % layer.pool:
            raise ValueError(f"enc_blocks {enc_blocks}: {layer.pool} does not divide {layer.resolution}")
        given, giver = layer.output, "the block before it gives"
    return layers


def decoder_layers(dec_blocks: str, encoded: Collection[int]) -> list[DecoderLayer]:
    """The decoder's blocks in order.

    Raises ValueError if a block is at none of the encoder's resolutions `encoded`, or has no earlier state to mix in.
    """
    layers = [DecoderLayer(*numbers) for numbers in parse_blocks("dec_blocks", dec_blocks)]
    seen: set[int] = set()
    for resolution, mixin in layers:
        if resolution not in encoded:
            known = ", ".join(map(str, sorted(encoded)))
            raise ValueError(f"dec_blocks {dec_blocks}: a block at {resolution}, but the encoder gives {known}")
        if mixin is not None and (mixin not in seen or mixin >= resolution or resolution % mixin):
            raise ValueError(
                f"dec_blocks {dec_blocks}: {resolution}m{mixin}: {mixin} must be an earlier block's resolution, and "
                f"{resolution} a multiple of it"
            )
        seen.add(resolution)
    return layers
