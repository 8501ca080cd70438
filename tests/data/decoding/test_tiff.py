"""TIFF in all combinations of layouts: pixels equal what was written and tifffile's, or an error names the layout.

All 8,000 layouts: `TIFF_LAYOUTS=100000 pytest -s tests/data/test_tiff.py`.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddpm_seg.data.decoding.images import ImageError, Limits, decode
from tests.data.decoding.tiff_layouts import Layout, draw, layouts, palette, write
from tests.odd_images import encode, exif, picture

SHORT = 420


def chosen() -> list[Layout]:
    everything = layouts()
    count = min(int(os.environ.get("TIFF_LAYOUTS", SHORT)), len(everything))
    return [everything[i] for i in np.random.default_rng(5).permutation(len(everything))[:count]]


def expected(layout: Layout, values: np.ndarray) -> np.ndarray | None:
    """(H, W, 3) of 0 to 255, not rounded; None for what must be refused."""
    if layout.kind == "palette":
        return (palette(layout) >> 8).T[values[:, :, 0].astype(int)]
    wide = layout.samples[0] == "i" or layout.samples == "u32"  # noise over all of it: no known white
    if wide or (layout.kind == "cmyk" and layout.samples not in ("u8", "u16")):
        # CMYK of few bits has one meaning, and is read.
        return None if wide or layout.samples[0] != "u" else _cmyk(values / (2**layout.bits - 1))
    shares = values.astype(float) if layout.samples[0] == "f" else values / (2**layout.bits - 1)
    if layout.kind == "cmyk":
        return _cmyk(shares)
    if layout.kind == "grey inverted":
        shares = 1 - shares
    return 255 * (shares[:, :, :3] if shares.shape[2] >= 3 else shares[:, :, :1].repeat(3, axis=2))


def _cmyk(shares: np.ndarray) -> np.ndarray:
    return 255 * (1 - shares[:, :, :3]) * (1 - shares[:, :, 3:])


def independent(data: bytes, layout: Layout) -> np.ndarray:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        read = file.pages[0].asarray()
    if read.ndim == 2:
        return read[:, :, None]
    return np.moveaxis(read, 0, 2) if layout.planar else read


@pytest.mark.filterwarnings("ignore")
def test_pixels_over_the_product_of_layouts() -> None:
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    for layout in chosen():
        values = draw(layout, rng)
        data = write(layout, values)
        assert np.array_equal(independent(data, layout).astype(values.dtype), values), f"no valid file: {layout}"
        wanted = expected(layout, values)
        if wanted is None:
            with pytest.raises(ImageError) as caught:
                decode(data)
            assert caught.value.error_type == "format_not_allowed", layout
            assert f"{layout.bits}-bit" in str(caught.value), layout
            outcomes["named"] += 1
            continue
        difference = np.abs(decode(data) - wanted).max()
        # Rounding, and of colours of 16 bits the upper byte, as Pillow takes it.
        assert difference <= (2.6 if layout.kind == "cmyk" else 1 if layout.bits == 16 else 0.51), layout
        outcomes["read"] += 1
    print(f"{outcomes.total()} layouts: {dict(outcomes)}")
    assert outcomes.total() >= SHORT


@pytest.mark.parametrize("samples", ["u8", "u16"])
def test_big_tiff(samples: str) -> None:
    values = picture().astype(np.uint64) * (257 if samples == "u16" else 1)
    layout = Layout(samples=samples, planar=True, big=True)
    assert np.array_equal(decode(write(layout, values)), picture())
    with pytest.raises(ImageError, match="big-endian BigTIFF") as caught:  # whose tags Pillow cannot read
        decode(write(dataclasses.replace(layout, byte_order=">"), values))
    assert caught.value.error_type == "format_not_allowed"


def test_the_same_picture_in_every_layout_of_its_bits_gives_the_same_pixels() -> None:
    values = np.random.default_rng(1).integers(0, 2**16, (30, 40, 3)).astype(np.uint64)
    same = [one for one in layouts() if (one.kind, one.samples) == ("rgb", "u16")]
    assert len(same) > 50
    assert len({decode(write(layout, values)).tobytes() for layout in same}) == 1


@pytest.mark.parametrize(
    ("kind", "samples", "named"),
    [
        ("cmyk", "f32", "CMYK: 4 x 32-bit floats, uncompressed"),
        ("rgb", "i16", "RGB: 3 x 16-bit signed whole numbers, uncompressed"),
        ("grey", "u32", "grey: 1 x 32-bit whole numbers, uncompressed"),
    ],
)
def test_what_is_not_read_is_named(kind: str, samples: str, named: str) -> None:
    layout = Layout(kind=kind, samples=samples)
    with pytest.raises(ImageError) as caught:
        decode(write(layout, draw(layout, np.random.default_rng(0))))
    assert caught.value.error_type == "format_not_allowed"
    assert named in str(caught.value)


@pytest.mark.parametrize(("tag", "value"), [(259, 34887), (259, 50002), (262, 32803), (262, 9), (339, 6)])
def test_valid_files_of_rare_kinds_are_never_called_corrupt(tag: int, value: int) -> None:
    data = bytearray(write(Layout(kind="grey", samples="u8"), draw(Layout(kind="grey"), np.random.default_rng(0))))
    place = data.rindex(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0")
    data[place + 8 : place + 10] = value.to_bytes(2, "little")
    with pytest.raises(ImageError) as caught:
        decode(bytes(data))
    assert caught.value.error_type == "format_not_allowed"
    assert "this TIFF layout is not read" in str(caught.value)


def test_a_layout_of_our_own_reader_is_turned_and_cut_as_others_are() -> None:
    values = picture().astype(np.uint64) * 257
    for orientation in range(1, 9):
        ours = write(Layout(samples="u16", planar=True, orientation=orientation), values)
        pillows = encode(Image.fromarray(picture()), "PNG", exif=exif(orientation))
        assert np.array_equal(decode(ours), decode(pillows))
    for stop in (len(ours) // 2, 40):
        with pytest.raises(ImageError) as caught:
            decode(ours[:stop])
        assert caught.value.error_type in ("truncated", "corrupt")
    with pytest.raises(ImageError, match="56 x 40") as caught:
        decode(ours, Limits(max_pixels=100))
    assert caught.value.error_type == "too_many_pixels"
