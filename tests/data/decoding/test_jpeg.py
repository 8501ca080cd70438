from __future__ import annotations

import io
import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.decoding import images
from ddpm_seg.data.decoding.images import ImageError, read
from ddpm_seg.data.decoding.jpeg import jpeg_pixels

SIZES = [(1, 1), (7, 5), (17, 33), (40, 1), (255, 257)]


def encodings() -> Iterator[bytes]:
    """JPEGs of all sizes and kinds that Pillow writes."""
    generator = np.random.default_rng(0)
    kinds = itertools.product(SIZES, (1, 75, 100), ("4:4:4", "4:2:2", "4:2:0"), (False, True), ("RGB", "L"), (0, 3))
    for size, quality, subsampling, progressive, mode, restart in kinds:
        coarse = generator.integers(0, 256, (1 + size[1] // 4, 1 + size[0] // 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
        buffer = io.BytesIO()
        options = {"subsampling": subsampling, "progressive": progressive, "restart_marker_blocks": restart}
        picture.save(buffer, "JPEG", quality=quality, **options)
        yield buffer.getvalue()


def damaged(files: list[bytes], count: int) -> Iterator[bytes]:
    """Copies of them that are cut off, or have bytes changed, added or left out."""
    chance = random.Random(0)
    for _ in range(count):
        data = bytearray(chance.choice(files))
        place, some = chance.randrange(2, len(data)), chance.randrange(1, 20)
        match chance.randrange(4):
            case 0:
                del data[place:]
            case 1:
                data[place] = chance.randrange(256)
            case 2:
                data[place:place] = chance.randbytes(some)
            case _:
                del data[place : place + some]
        yield bytes(data)


def outcome(data: bytes) -> tuple[object, ...]:
    try:
        found = read(data)
    except ImageError as error:
        return error.error_type, str(error)
    return found.pixels.tobytes(), found.pixels.shape, found.format, found.turned


def by_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    with monkeypatch.context() as patch:
        patch.setattr(images, "jpeg_pixels", lambda image, data: None)
        return outcome(data)


def test_whole_files_give_the_bytes_that_pillow_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in encodings():
        with Image.open(io.BytesIO(data)) as image:
            assert jpeg_pixels(image, data) is not None
        assert outcome(data) == by_pillow(data, monkeypatch)


def test_damaged_files_give_the_bytes_or_the_error_that_pillow_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    readable = 0
    for data in damaged(list(encodings()), 1000):
        found = outcome(data)
        assert found == by_pillow(data, monkeypatch)
        readable += len(found) == 4
    assert 100 < readable < 900


@pytest.mark.parametrize(("mode", "format"), [("CMYK", "JPEG"), ("RGB", "PNG"), ("RGB", "WEBP")])
def test_pillow_reads_what_is_not_a_usual_jpeg(mode: str, format: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, format)
    with Image.open(buffer) as image:
        assert jpeg_pixels(image, buffer.getvalue()) is None
