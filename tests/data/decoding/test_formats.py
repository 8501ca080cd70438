"""AVIF, HEIC and other formats; broken metadata and end marks; and a fuzzer over every format that is read.

The long run of the fuzzer: `MALFORMED_FILES=5000 pytest -s tests/data/test_formats.py`.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.decoding import formats, images
from ddpm_seg.data.decoding.decoder import decode_and_fit, read_apart
from ddpm_seg.data.decoding.formats import EXTENSIONS, FORMATS, register_plugins
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError, Limits, decode
from tests.data.decoding.malformed_images import sources
from tests.data.decoding.tiff_layouts import draw, layouts, write
from tests.odd_images import encode, exif, picture

RGB = Image.fromarray(picture())
ERRORS = {"too_many_pixels", "unidentified", "format_not_allowed", "truncated", "corrupt", "out_of_memory", "empty"}
SHORT = 500


def needs(format: str) -> None:
    if format not in FORMATS:
        pytest.skip(formats.MISSING[format])
    register_plugins()


@pytest.mark.parametrize(("format", "error"), [("AVIF", 8), ("HEIF", 12)])
def test_pictures_of_phones_are_read_in_the_child(format: str, error: int) -> None:
    needs(format)
    decoded = read_apart(encode(RGB, format, quality=95))
    assert (decoded.format, decoded.turned) == (format, False)
    assert np.abs(decoded.pixels.astype(int) - picture()).max() <= error
    turned = Image.open(io.BytesIO(encode(RGB, "JPEG", exif=exif(6), quality=95)))
    tag = {"exif": turned.getexif()} if format == "AVIF" else {}  # HEIC's plugin turns by the image's own
    pixels = read_apart(encode(turned, format, quality=95, **tag)).pixels
    assert np.abs(pixels.astype(int) - np.rot90(picture(), -1)).max() <= error + 4
    with pytest.raises(ImageError) as caught:
        read_apart(encode(RGB, format), Limits(max_pixels=100))
    assert caught.value.error_type == "too_many_pixels"


def test_large_pictures_of_phones_are_read_within_the_confinement() -> None:
    needs("HEIF")
    for format in ("AVIF", "HEIF"):
        canvas, placement = decode_and_fit(encode(RGB.resize((1000, 750)), format), DEFAULT_LIMITS, 32, "stretch")
        assert (placement.image_width, placement.image_height) == (1000, 750)
        assert np.abs(canvas.astype(int) - np.asarray(RGB.resize((32, 32), Image.Resampling.BILINEAR))).max() <= 24


def test_without_its_plugin_a_heic_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "FORMATS", tuple(one for one in FORMATS if one != "HEIF"))
    with pytest.raises(ImageError, match=r"pip install 'ddpm_seg\[heic\]'") as caught:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert caught.value.error_type == "format_not_allowed"


@pytest.mark.parametrize(
    ("begins", "name"),
    [(b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"), (b"\xff\x4f\xff\x51", "JPEG 2000")],
)
def test_other_new_formats_are_named(begins: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=f"{name} files are not read here; convert") as caught:
        decode(begins + bytes(100))
    assert caught.value.error_type == "format_not_allowed"


def test_their_files_are_listed() -> None:
    assert {".avif", ".heic", ".heif", ".jxl", ".jp2", ".png"} <= EXTENSIONS


def png_with(name: bytes, content: bytes, *, checksum: int = 0) -> bytes:
    whole = encode(RGB, "PNG", exif=exif(6))
    chunk = struct.pack(">I", len(content)) + name + content
    return whole[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:]) ^ checksum) + whole[33:]


SQUEEZED = zlib.compress(bytes(3_000_000), 9)
METADATA = {
    "text of 3 MB": png_with(b"zTXt", b"Comment\0\0" + SQUEEZED),
    "profile of 3 MB": png_with(b"iCCP", b"icc\0\0" + SQUEEZED),
    "international text of 3 MB": png_with(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + SQUEEZED),
    "wrong checksum": png_with(b"tEXt", b"Comment\0hello", checksum=1),
    "broken compression": png_with(b"zTXt", b"Comment\0\0" + SQUEEZED[:20]),
    "cut resolution": png_with(b"pHYs", b"\0\0"),
    "broken profile": png_with(b"iCCP", b"icc\0\7nonsense"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_is_not_wanted(name: str) -> None:
    assert np.array_equal(read_apart(METADATA[name]).pixels, np.rot90(picture(), -1)), "the orientation is kept"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_mark_is_read_and_a_shorter_one_is_truncated(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise).convert(mode), "JPEG")
    for cut in (1, 2):
        assert np.array_equal(decode(whole[:-cut]), decode(whole))
    for cut in (4, 5, 20, len(whole) // 2):
        with pytest.raises(ImageError) as caught:
            decode(whole[:-cut])
        assert caught.value.error_type == "truncated"


def test_a_progressive_jpeg_without_its_end_is_truncated() -> None:
    with pytest.raises(ImageError) as caught:
        decode(encode(RGB, "JPEG", progressive=True)[:-2])
    assert caught.value.error_type == "truncated"


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Files of every format and of many TIFF layouts: cut, flipped, spliced, with numbers that are all ones."""
    rng = np.random.default_rng(seed)
    register_plugins()
    whole = [data for _, data in sources().values()] + [encode(RGB, one) for one in ("AVIF", "HEIF") if one in FORMATS]
    everything = layouts()
    whole += [write(one, draw(one, rng)) for one in (everything[i] for i in rng.integers(len(everything), size=60))]
    for _ in range(count):
        data = bytearray(whole[rng.integers(len(whole))])
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(data) if rng.random() < 0.5 else min(400, len(data))))
            what = rng.integers(5)
            if what == 0:
                data[place] ^= 1 << int(rng.integers(8))
            elif what == 1:
                data[place : place + 4] = b"\xff" * 4
            elif what == 2:
                data[place : place + 2] = rng.bytes(2)
            elif what == 3:
                data = data[: max(place, 4)]
            else:
                other = whole[rng.integers(len(whole))]
                data[place:] = other[int(rng.integers(len(other))) :]
            data = data or bytearray(b"\0")
        # A TIFF's tags are at its end.
        if data[:2] in (b"II", b"MM") and len(data) > 400 and rng.random() < 0.7:
            data[-int(rng.integers(1, 250))] = int(rng.integers(256))
        yield bytes(data)


def outcome_of(data: bytes) -> tuple[str, str]:
    try:
        return ("ok" if read_apart(data, Limits(decode_seconds=10)).pixels.size else "no pixels"), ""
    except ImageError as error:
        return error.error_type, str(error)


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_end_in_pixels_or_in_a_documented_error() -> None:
    outcomes = Counter[str]()
    for data in mutants(3, int(os.environ.get("MALFORMED_FILES", SHORT))):
        outcome, message = outcome_of(data)
        assert outcome in ERRORS | {"ok"}, (outcome, message, data[:40])
        assert message.isprintable()
        outcomes[outcome] += 1
    print(f"{outcomes.total()} files: {dict(outcomes)}")
    assert outcomes["ok"] > 0
