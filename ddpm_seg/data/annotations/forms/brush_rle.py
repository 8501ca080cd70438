"""Label Studio's run lengths of a brush: the bytes of thi.ng's rle-pack, over the RGBA pixels of a region."""

# The stream of bits, most significant first: 32 of the number of values, 5 of the bits of a value less one, four times
# 4 of a size less one. Then until all values are there: 1 whether a value repeats, 2 which of the four sizes the count
# has, the count less one, and the value once, or, where none repeats, all of them.

from __future__ import annotations

import numpy as np

SIZES = (3, 4, 8, 16)
_LONGEST = 1 << SIZES[-1]
_CHANNELS = 4


def encode_brush(pixels: np.ndarray) -> list[int]:
    """Bytes, as integers, of a region (H, W) bool."""
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


def decode_brush(data: list[int], height: int, width: int) -> np.ndarray:
    """The region (H, W) bool: where alpha is not 0. Raises ValueError or TypeError for bytes that are not such a
    region's."""
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
        raise ValueError(f"the run lengths are of {count // _CHANNELS} pixels, the image has {height} x {width}")
    if word != 8:
        raise ValueError(f"the run lengths hold values of {word} bits, expected 8")
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeats, stop = read(1), done + 1 + read(sizes[read(2)])
        if stop > count:
            raise ValueError("the run lengths are of more pixels than they say")
        if repeats:
            values[done:stop] = read(word)
        else:
            values[done:stop] = [read(word) for _ in range(stop - done)]
        done = stop
    return values.reshape(height, width, _CHANNELS)[..., -1] > 0
