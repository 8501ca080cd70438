"""Label Studio's run lengths for a brush region: thi.ng's rle-pack over the region's RGBA pixels."""

# Bits, most significant first:
#   header: 32 number of values; 5 bits of a value, minus 1; 4 x 4 sizes of run lengths in bits, minus 1
#   each run: 1 whether one value repeats; 2 index into the sizes; run length minus 1 in that size;
#             then the value once if it repeats, else all values of the run

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = (3, 4, 8, 16)
_LONGEST = 1 << SIZES[-1]
_CHANNELS = 4


def encode_brush(pixels: NDArray[np.bool_]) -> list[int]:
    """A region (H, W) bool as bytes, each an integer."""
    values = pixels.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff([*starts.tolist(), values.size]) * _CHANNELS
    bits = [f"{values.size * _CHANNELS:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for inside, length in zip(values[starts].tolist(), lengths.tolist(), strict=True):
        for count in [_LONGEST] * (length // _LONGEST) + ([length % _LONGEST] if length % _LONGEST else []):
            index = next(index for index, size in enumerate(SIZES) if count <= 1 << size)
            bits.append(f"1{index:02b}{count - 1:0{SIZES[index]}b}{255 if inside else 0:08b}")
    text = "".join(bits)
    return list(int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big"))


def decode_brush(data: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """The region (H, W) bool: true where alpha is not 0. Raises ValueError or TypeError if `data` is not such a
    region."""
    bits = "".join(f"{value:08b}" for value in bytes(data))
    at = 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        if at > len(bits):
            raise ValueError("the run lengths end early")
        return int(bits[at - size : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if count != height * width * _CHANNELS:
        raise ValueError(f"the run lengths have {count // _CHANNELS} pixels, the image has {height} x {width}")
    if word != 8:
        raise ValueError(f"the run lengths hold values of {word} bits, expected 8")
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeats, stop = read(1), done + 1 + read(sizes[read(2)])
        if stop > count:
            raise ValueError("the run lengths have more pixels than they declare")
        if repeats:
            values[done:stop] = read(word)
        else:
            values[done:stop] = [read(word) for _ in range(stop - done)]
        done = stop
    return values.reshape(height, width, _CHANNELS)[..., -1] > 0
