"""Reads TIFF layouts that Pillow refuses or decodes wrongly: separate bands, floats, odd bits, many bands of "grey".

Shapes: H x W pixels, S samples per pixel.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_PHOTOMETRIC = {0: "grey, white is 0", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_PHOTOMETRIC |= {9: "ICCLab", 10: "ITULab", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv"}
_PHOTOMETRIC |= {34892: "linear raw"}
_KINDS = {1: "whole numbers", 2: "signed whole numbers", 3: "floats", 5: "complex whole numbers", 6: "complex floats"}

_COMPRESSIONS = {1: "uncompressed", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 6: "old JPEG"}
_COMPRESSIONS |= {7: "JPEG", 8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34676: "SGI Log", 34677: "SGI Log 24"}
_COMPRESSIONS |= {33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA"}
_COMPRESSIONS |= {50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}

_NONE, _DEFLATES = 1, (8, 32946)
# libtiff undoes these: LZW, PackBits, LZMA, Zstandard.
_BYTE_COMPRESSIONS = (5, 32773, 34925, 50000)


class LayoutError(ValueError):
    """A valid file with a layout that is not read; the text names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How the first picture of a TIFF is stored, according to its tags."""

    byte_order: str
    width: int
    height: int
    bits: tuple[int, ...]
    """Bits of each of the S samples."""
    kinds: tuple[int, ...]
    """TIFF's SampleFormat of each sample: 1 unsigned, 2 signed, 3 floating point."""
    photometric: int
    extra: tuple[int, ...]
    compression: int
    predictor: int
    reversed_bits: bool
    planar: bool
    subsampled: bool
    orientation: int
    chunk: tuple[int, int]
    """Rows and columns of a strip or tile."""
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    def __str__(self) -> str:
        each = sorted(set(self.bits))
        bits = f"{each[0]}" if len(each) == 1 else "/".join(map(str, self.bits))
        kind = _KINDS.get(self.kinds[0], f"numbers of sample format {self.kinds[0]}")
        if len(set(self.kinds)) > 1:
            kind = "numbers of several kinds"
        color = _PHOTOMETRIC.get(self.photometric, f"photometric {self.photometric}")
        pack = _COMPRESSIONS.get(self.compression, f"compression {self.compression}")
        words = [f"{color}: {len(self.bits)} x {bits}-bit {kind}", pack]
        words += ["bands apart"] * self.planar + [f"predictor {self.predictor}"] * (self.predictor > 1)
        words += ["subsampled"] * (self.photometric == _YCBCR and self.subsampled)
        return ", ".join(words)

    @property
    def pillow_reads_it(self) -> bool:
        """Whether Pillow is known to return the right pixels or to refuse the file."""
        if self.photometric == _YCBCR and self.compression == _NONE and self.subsampled:
            return False
        if self.compression not in (_NONE, *_DEFLATES, *_BYTE_COMPRESSIONS):
            return set(self.kinds) == {1} and set(self.bits) in ({1}, {8}) and not self._bands_of_grey
        if self.planar or set(self.kinds) != {1} or self._bands_of_grey:
            return False
        if self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE) and self.bits in ((1,), (2,), (4,)):
            return True
        if set(self.bits) == {8}:
            return self.photometric != _WHITE_IS_ZERO or len(self.bits) == 1
        one_or_colors = {_BLACK_IS_ZERO: (1,), _RGB: (3, 4), _CMYK: (4,)}
        return set(self.bits) == {16} and len(self.bits) in one_or_colors.get(self.photometric, ())

    @property
    def _bands_of_grey(self) -> bool:
        return self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and len(self.bits) > 2


def layout_of(data: bytes) -> Layout:
    """Reads the layout from the tags. Malformed tags raise whatever they break in Pillow, struct or here."""
    head = data[:16] if data[2:3] == b"+" or data[3:4] == b"+" else data[:8]
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    height, width = tags[257], tags[256]
    samples = tags.get(277, 1)
    if not 1 <= samples <= 64 or width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels of {samples} samples")
    tiled = 324 in tags
    return Layout(
        byte_order="<" if data[:2] == b"II" else ">",
        width=width,
        height=height,
        bits=_of_each(tags.get(258, 1), samples),
        kinds=tuple(1 if kind == 4 else kind for kind in _of_each(tags.get(339, 1), samples)),
        photometric=tags.get(262, 0),
        extra=_numbers(tags.get(338, ())),
        compression=tags.get(259, 1),
        predictor=tags.get(317, 1),
        reversed_bits=tags.get(266, 1) == 2,
        planar=tags.get(284, 1) == 2 and samples > 1,
        subsampled=tags.get(530, (2, 2)) != (1, 1),
        orientation=tags.get(274, 1),
        chunk=(tags[323], tags[322]) if tiled else (min(tags.get(278, height), height), width),
        tiled=tiled,
        offsets=_numbers(tags[324 if tiled else 273]),
        counts=_numbers(tags.get(325 if tiled else 279, ())),
    )


def read_bands(data: bytes, layout: Layout) -> NDArray[Any]:
    """The samples of the picture, (H, W, 1), (H, W, 3) or for CMYK (H, W, 4), in the layout's own type; 0 is black.

    Raises LayoutError, or ValueError or EOFError if the bytes do not match the tags. Uses the memory of the bands and
    one strip or tile.
    """
    bands, dtype = _bands(layout), _dtype(layout)
    rows, columns = layout.chunk
    down, across = -(-layout.height // rows), -(-layout.width // columns)
    planes = len(layout.bits) if layout.planar else 1
    if len(layout.offsets) < down * across * planes:
        raise EOFError(f"truncated: {len(layout.offsets)} of {down * across * planes} strips or tiles")
    pixels = np.empty((layout.height, layout.width, bands), dtype.newbyteorder("="))
    for plane, j, i in itertools.product(range(min(planes, bands)), range(down), range(across)):
        top, left = j * rows, i * columns
        height = rows if layout.tiled else min(rows, layout.height - top)
        chunk = _chunk(data, layout, (plane * down + j) * across + i, height, dtype)
        part = pixels[top : top + height, left : left + columns]
        chunk = chunk[: part.shape[0], : part.shape[1]]
        if layout.planar:
            part[:, :, plane] = chunk[:, :, 0]
        else:
            part[:] = chunk[:, :, :bands]
    if layout.photometric == _WHITE_IS_ZERO:
        _invert(pixels, layout)
    return pixels


def _bands(layout: Layout) -> int:
    """Number of samples that make up the picture."""
    samples = len(layout.bits)
    if layout.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples <= 4:
        return 1 if samples <= 2 else 3  # GDAL calls all bands grey; three or four are taken as colours
    if layout.photometric == _RGB and samples >= 3:
        return 3
    if layout.photometric == _CMYK and samples >= 4 and layout.kinds[0] == 1:
        return 4
    raise LayoutError(str(layout))


def _dtype(layout: Layout) -> np.dtype[Any]:
    """Type of a sample in the file, or after unpacking if its bits do not fill bytes."""
    if len({*layout.bits}) > 1 or len({*layout.kinds}) > 1:
        raise LayoutError(str(layout))
    bits, kind = layout.bits[0], layout.kinds[0]
    if kind == 1 and 1 <= bits < 16 and bits != 8:
        return np.dtype(np.uint16)
    if kind not in (1, 2, 3) or bits not in {3: (16, 32, 64)}.get(kind, (8, 16, 32, 64)):
        raise LayoutError(str(layout))
    return np.dtype(f"{layout.byte_order}{'?uif'[kind]}{bits // 8}")


def _chunk(data: bytes, layout: Layout, number: int, height: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One strip or tile: (height, columns, its samples)."""
    samples, bits, columns = 1 if layout.planar else len(layout.bits), layout.bits[0], layout.chunk[1]
    row_bytes = -(-columns * samples * bits // 8)
    offset = layout.offsets[number]
    count = layout.counts[number] if number < len(layout.counts) else height * row_bytes
    packed = data[offset : offset + count]
    if layout.reversed_bits:
        packed = packed.translate(_REVERSED)
    unpacked = _decompress(packed, layout, height, row_bytes)
    if len(unpacked) < height * row_bytes:
        raise EOFError(f"truncated: strip or tile {number} has {len(unpacked)} of {height * row_bytes} bytes")
    lines = np.frombuffer(unpacked, np.uint8, height * row_bytes).reshape(height, row_bytes)
    if bits % 8:
        return _unpack_bits(lines, bits, columns * samples).reshape(height, columns, samples)
    if layout.predictor == 3 and dtype.kind == "f":
        return _undo_float_differences(lines, samples, dtype).reshape(height, columns, samples)
    values = lines.view(dtype).reshape(height, columns, samples)
    if layout.predictor == 2:
        return np.cumsum(values, axis=1, dtype=dtype.newbyteorder("="))
    if layout.predictor != 1:
        raise LayoutError(str(layout))
    return values


def _decompress(packed: bytes, layout: Layout, rows: int, row_bytes: int) -> bytes:
    if layout.compression == _NONE:
        return packed
    if layout.compression in _DEFLATES:
        return zlib.decompressobj().decompress(packed, rows * row_bytes)
    if layout.compression not in _BYTE_COMPRESSIONS:
        raise LayoutError(str(layout))
    # Pillow's libtiff has the codecs: give it the same bytes as a grey picture with one strip.
    tags = [(256, row_bytes), (257, rows), (258, 8), (259, layout.compression), (262, 1), (273, 8), (277, 1)]
    tags += [(278, rows), (279, len(packed))]
    place = 8 + len(packed) + len(packed) % 2
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    grey = struct.pack("<2sHI", b"II", 42, place) + packed.ljust(place - 8, b"\0") + directory + bytes(4)
    with Image.open(io.BytesIO(grey), formats=("TIFF",)) as image:
        return image.tobytes()


def _unpack_bits(lines: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint16]:
    """(rows, bytes) to (rows, count) uint16; the highest bit comes first, whatever the byte order."""
    apart = np.unpackbits(lines, axis=1, count=count * bits).reshape(len(lines), count, bits)
    values = np.zeros(apart.shape[:2], np.uint16)
    for place in range(bits):
        values = (values << 1) | apart[:, :, place]
    return values


def _undo_float_differences(lines: NDArray[np.uint8], samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Undoes Adobe's predictor 3: a row's bytes, grouped by their place in the number, highest first, then
    differenced."""
    height = len(lines)
    summed = np.cumsum(lines.reshape(height, -1, samples), axis=1, dtype=np.uint8)
    numbers = summed.reshape(height, dtype.itemsize, -1).swapaxes(1, 2)
    return np.ascontiguousarray(numbers).view(dtype.newbyteorder(">")).reshape(height, -1)


def _invert(pixels: NDArray[Any], layout: Layout) -> None:
    if layout.kinds[0] == 1:
        np.subtract(2 ** layout.bits[0] - 1, pixels, out=pixels)
    elif layout.kinds[0] == 3 and np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1:
        np.subtract(1, pixels, out=pixels)
    else:
        raise LayoutError(f"{layout}; its white point is not known")


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _of_each(value: Any, samples: int) -> tuple[int, ...]:
    numbers = _numbers(value)
    return numbers * samples if len(numbers) == 1 else (numbers + numbers[-1:] * samples)[:samples]


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
