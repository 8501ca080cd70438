"""TIFF files in all combinations of layouts, written by hand, so that their pixels are known without a decoder."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np

BANDS = {"grey": 1, "grey inverted": 1, "grey + alpha": 2, "rgb": 3, "rgb + alpha": 4, "palette": 1, "cmyk": 4}
BANDS |= {"3 bands as grey": 3, "4 bands as grey": 4, "rgb + 2": 5}
PHOTOMETRIC = {"grey inverted": 0, "palette": 3, "cmyk": 5} | dict.fromkeys(("rgb", "rgb + alpha", "rgb + 2"), 2)
# Name: TIFF's number, encoder of a strip's or tile's bytes.
COMPRESSION = {
    "none": (1, bytes),
    "lzw": (5, imagecodecs.lzw_encode),
    "deflate": (8, imagecodecs.zlib_encode),
    "old deflate": (32946, imagecodecs.zlib_encode),
    "packbits": (32773, imagecodecs.packbits_encode),
    "lzma": (34925, imagecodecs.lzma_encode),
    "zstd": (50000, imagecodecs.zstd_encode),
}
SAMPLES = ("u1", "u2", "u4", "u8", "u10", "u12", "u14", "u16", "u32", "i8", "i16", "i32", "f16", "f32", "f64")


@dataclass(frozen=True, kw_only=True)
class Layout:
    kind: str = "rgb"
    samples: str = "u8"
    """u, i or f (unsigned, signed, floating point) and the bits of each."""
    planar: bool = False
    byte_order: str = "<"
    compression: str = "none"
    predictor: bool = False
    tiles: bool = False
    big: bool = False
    orientation: int = 1

    @property
    def bits(self) -> int:
        return int(self.samples[1:])

    @property
    def possible(self) -> bool:
        if self.planar and BANDS[self.kind] == 1:
            return False
        if self.kind == "palette" and self.samples not in ("u1", "u2", "u4", "u8"):
            return False
        if self.predictor and (self.compression not in ("lzw", "deflate") or self.bits not in (8, 16, 32, 64)):
            return False
        return not (self.predictor and self.samples[0] == "f" and self.bits == 64)

    def __str__(self) -> str:
        words = [self.kind, self.samples, "planar" if self.planar else "chunky", self.compression]
        words += ["little" if self.byte_order == "<" else "big", "tiles" if self.tiles else "strips"]
        return ", ".join(words + ["predictor"] * self.predictor + ["BigTIFF"] * self.big)


def layouts() -> list[Layout]:
    """All that make sense, some thousands."""
    product = itertools.product(BANDS, SAMPLES, (False, True), "<>", COMPRESSION, (False, True), (False, True))
    names = ("kind", "samples", "planar", "byte_order", "compression", "predictor", "tiles")
    found = [Layout(**dict(zip(names, values, strict=True))) for values in product]
    return [one for one in found if one.possible]


def draw(layout: Layout, rng: np.random.Generator, height: int = 21, width: int = 37) -> np.ndarray:
    """Samples (H, W, bands) as stored: noise over the whole range, floats in 0 to 1."""
    shape = (height, width, BANDS[layout.kind])
    if layout.samples[0] == "f":
        values = rng.random(shape).astype(f"f{layout.bits // 8}")
        values[0, 0], values[0, 1] = 0, 1
        return values
    if layout.samples[0] == "i":
        return rng.integers(-(2 ** (layout.bits - 1)), 2 ** (layout.bits - 1), shape).astype(f"i{layout.bits // 8}")
    return rng.integers(0, 2**layout.bits, shape).astype(np.uint64)


def palette(layout: Layout) -> np.ndarray:
    """(3, 2^bits) uint16."""
    return np.random.default_rng(7).integers(0, 256, (3, 2**layout.bits)).astype(np.uint16) * 257


def write(layout: Layout, values: np.ndarray) -> bytes:
    """The file of `values` (H, W, bands)."""
    height, width, bands = values.shape
    rows, columns = (16, 16) if layout.tiles else (9, width)
    down, across = -(-height // rows), -(-width // columns)
    padded = np.zeros((down * rows, across * columns, bands), values.dtype)
    padded[:height, :width] = values
    chunks = []
    for planes in [padded[:, :, i : i + 1] for i in range(bands)] if layout.planar else [padded]:
        for top, left in itertools.product(range(0, down * rows, rows), range(0, across * columns, columns)):
            stop = top + rows if layout.tiles else min(top + rows, height)
            chunks.append(_pack(planes[top:stop, left : left + columns], layout))
    encode = COMPRESSION[layout.compression][1]
    return _file(layout, values.shape, rows, columns, [encode(chunk) for chunk in chunks])


def _pack(chunk: np.ndarray, layout: Layout) -> bytes:
    """(h, w, bands) as the file's bytes before compression."""
    order = layout.byte_order
    if layout.samples[0] == "f" and layout.predictor:
        # Bytes of a row sorted by their place in the number, highest first, then differences; whatever the byte order.
        rows = np.ascontiguousarray(chunk.astype(f">f{layout.bits // 8}")).view(np.uint8)
        height, bands = chunk.shape[0], chunk.shape[2]
        rows = rows.reshape(height, -1, layout.bits // 8).swapaxes(1, 2).reshape(height, -1)
        return np.concatenate([rows[:, :bands], rows[:, bands:] - rows[:, :-bands]], axis=1).tobytes()
    if layout.predictor:
        chunk = np.concatenate([chunk[:, :1], chunk[:, 1:] - chunk[:, :-1]], axis=1)
    if layout.bits in (8, 16, 32, 64):
        return chunk.astype(f"{order}{layout.samples[0]}{layout.bits // 8}").tobytes()
    # Most significant bit first, whatever the byte order; each row ends with a whole byte.
    flat = chunk.reshape(len(chunk), -1, 1)
    bits = (flat >> np.arange(layout.bits - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(bits.reshape(len(chunk), -1).astype(np.uint8), axis=1).tobytes()


def _file(layout: Layout, shape: tuple[int, int, int], rows: int, columns: int, chunks: list[bytes]) -> bytes:
    height, width, bands = shape
    order = layout.byte_order
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [layout.bits] * bands),
        259: ("H", [COMPRESSION[layout.compression][0]]),
        262: ("H", [PHOTOMETRIC.get(layout.kind, 1)]),
        274: ("H", [layout.orientation]),
        277: ("H", [bands]),
        284: ("H", [2 if layout.planar else 1]),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[layout.samples[0]]] * bands),
    }
    if layout.predictor:
        tags[317] = ("H", [3 if layout.samples[0] == "f" else 2])
    if extra := bands - {2: 3, 5: 4}.get(tags[262][1][0], 1):
        tags[338] = ("H", [2 if "alpha" in layout.kind else 0] * extra)
    if layout.kind == "palette":
        tags[320] = ("H", palette(layout).reshape(-1).tolist())
    offset, count = (324, 325) if layout.tiles else (273, 279)
    tags |= {322: ("I", [columns]), 323: ("I", [rows])} if layout.tiles else {278: ("I", [rows])}
    word, head = ("Q", 16) if layout.big else ("I", 8)
    offsets = np.cumsum([head, *map(len, chunks)]).tolist()
    tags |= {offset: (word, offsets[:-1]), count: (word, [len(chunk) for chunk in chunks])}
    place = offsets[-1] + offsets[-1] % 2
    body = b"".join(chunks).ljust(place - head, b"\0")
    entry, inline = (20, 8) if layout.big else (12, 4)
    later = place + (8 if layout.big else 2) + entry * len(tags) + inline
    directory, values = struct.pack(order + ("Q" if layout.big else "H"), len(tags)), b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(packed) > inline:
            values, packed = values + packed, struct.pack(order + word, later + len(values))
        directory += struct.pack(order + "HH" + word, tag, {"H": 3, "I": 4, "Q": 16}[kind], len(numbers))
        directory += packed.ljust(inline, b"\0")
    first = struct.pack(order + ("HHHQ" if layout.big else "HI"), *((43, 8, 0, place) if layout.big else (42, place)))
    return {"<": b"II", ">": b"MM"}[order] + first + body + directory + struct.pack(order + word, 0) + values
