from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.decoding.images import ImageError, decode
from ddpm_seg.data.exports.picture import safe_name, showable

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def file(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp")])
def test_what_every_tool_shows_stays_as_it_is(form: str, suffix: str) -> None:
    data = file(form)
    assert showable(data, 6, 9) == (data, suffix)


@pytest.mark.parametrize(
    "data", [file("TIFF"), file("BMP"), file("JPEG", exif=turned())], ids=["tiff", "bmp", "turned"]
)
def test_others_become_upright_pngs(data: bytes) -> None:
    expected = decode(data)
    made, suffix = showable(data, *expected.shape[:2])
    assert suffix == ".png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), expected)


def test_another_image_by_now() -> None:
    with pytest.raises(ImageError, match="9 x 6 now, its mask 6 x 9"):
        showable(file("PNG"), 9, 6)


def test_names_are_safe_and_unique() -> None:
    names = {
        safe_name(uri, f"{number:032x}"[::-1])
        for number, uri in enumerate(["a/x.png", "b/x.png", "b/x.jpg", "../../etc/passwd", "/-.png", "s3://b/ü/ß?.png"])
    }
    assert len(names) == 6
    assert all(name.isascii() and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in names)


@pytest.mark.parametrize("image_id", ["/../../../AB", "..", "a/b", "C:\\x", "", "\x00", "é" * 40, "\ud800", "0" * 31])
@pytest.mark.parametrize("uri", ["s3://bucket/x.png", "/../../..", "..", "", "a/\x00.png", "é/\ud800.png"])
def test_no_name_leads_out_of_its_folder(uri: str, image_id: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{12,80}", safe_name(uri, image_id))
