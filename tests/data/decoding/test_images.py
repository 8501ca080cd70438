from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, MAX_SIDE, ImageError, Limits, decode
from tests.odd_images import broken_images, encode, exif, picture, png_header, readable_images, write_odd_images

READABLE = readable_images()
BROKEN = broken_images()


def decoded(image: Image.Image, format: str = "PNG", **options: object) -> np.ndarray:
    return decode(encode(image, format, **options))


# --- decode: what is read, and as what


def test_the_folder_of_odd_images_holds_at_least_twenty_with_image_suffixes(tmp_path):
    expected = write_odd_images(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)
    assert all((tmp_path / name).suffix.lower() in EXTENSIONS for name in expected)
    assert list(expected.values()).count("ok") >= 20
    assert len(set(expected.values())) >= 7


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_readable_image_becomes_contiguous_rgb(name):
    image = decode(READABLE[name])
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert image.min() < 20, "some of it is dark"
    assert image.max() > 180, "and some of it light: no scale was mistaken"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_image_is_an_error_of_its_type(name):
    data, error_type = BROKEN[name]
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.error_type == error_type
    assert_presentable(caught.value)


def assert_presentable(error: ImageError) -> None:
    text = str(error)
    assert text.isprintable()
    assert 0 < len(text) <= 220
    assert " at 0x" not in text, "an address differs from run to run"


def test_image_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("corrupt", "a message")))
    assert (error.error_type, str(error)) == ("corrupt", "a message")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_every_exif_orientation_gives_the_same_upright_picture(orientation, format):
    upright = Image.fromarray(picture())
    # How a camera stores it: the transposition that the orientation then undoes. Those of 6 and 8 undo each other.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = upright.copy()
    stored.getexif()[ExifTags.Base.Orientation] = inverse
    stored = ImageOps.exif_transpose(stored)
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    image = decoded(stored, format, exif=exif(orientation), **options)
    np.testing.assert_allclose(image.astype(int), picture(), atol=3 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    np.testing.assert_array_equal(decoded(Image.fromarray(picture()), exif=exif(orientation)), picture())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_tags_neither_fail_the_image_nor_hide_its_orientation():
    rng = np.random.default_rng(0)
    orientation = struct.pack(">HHIHH", ExifTags.Base.Orientation, 3, 1, 6, 0)
    for _ in range(300):
        # A second tag after Orientation (274): any name, type, count and value or offset.
        tag = int(rng.choice([282, 305, 33434, 34665, 34853, 37510, 40962]))
        odd = struct.pack(">HHI", tag, rng.integers(0, 14), rng.integers(0, 9)) + rng.bytes(4)
        block = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + orientation + odd + bytes(4) + rng.bytes(40)
        assert decoded(Image.fromarray(picture()), "JPEG", exif=block).shape == (56, 40, 3)


def test_16_bit_gradient_is_scaled_not_clipped():
    gradient = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    expected = np.rint(gradient / 257).astype(np.uint8)
    pgm = b"P5 64 64 65535\n" + gradient.astype(">u2").tobytes()
    big_endian = Image.frombytes("I;16B", (64, 64), gradient.astype(">u2").tobytes())
    tiff = encode(Image.fromarray(gradient), "TIFF")
    for data in (encode(Image.fromarray(gradient), "PNG"), tiff, encode(big_endian, "TIFF"), pgm):
        image = decode(data)
        for channel in range(3):
            np.testing.assert_array_equal(image[:, :, channel], expected)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_float_images_are_read_from_either_range(white):
    grey = picture()[:, :, 0]
    values = grey.astype(np.float32) / 255 * white
    values[0, :3] = np.nan, -white, 1.5 * white  # what filters and missing data leave
    expected = grey.copy()
    expected[0, :3] = 0, 0, 255
    np.testing.assert_array_equal(decoded(Image.fromarray(values), "TIFF")[:, :, 1], expected)


def test_cmyk_equals_its_rgb_source():
    source = Image.fromarray(picture())
    for format, options in (("JPEG", {"quality": 95}), ("TIFF", {})):
        image = decoded(source.convert("CMYK"), format, **options)
        assert np.abs(image.astype(int) - picture()).mean() < 6


def test_lab_white_red_and_black():
    # L as 0 to 255, a and b as signed bytes; sRGB red is L 54.3, a 80.8, b 69.9 under the D50 of profiles.
    lab = Image.frombytes("LAB", (3, 1), bytes([255, 0, 0, 0, 0, 0, 138, 81, 70]))
    np.testing.assert_allclose(decoded(lab, "TIFF")[0].astype(int), [[255] * 3, [0] * 3, [255, 0, 0]], atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_are_read_as_convert_rgb_does(mode):
    source = Image.fromarray(picture()).convert(mode)
    if mode in ("LA", "RGBA"):
        source.putalpha(Image.fromarray(picture()[:, :, 1]))
    format = {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    data = encode(source, format)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), expected)


def test_palette_with_transparency_drops_it_without_a_warning(recwarn):
    source = Image.fromarray(picture()).quantize(8)
    data = encode(source, "PNG", transparency=bytes([0, 100, 200]))
    np.testing.assert_array_equal(decode(data), np.asarray(source.convert("RGB")))
    assert not recwarn.list


@pytest.mark.parametrize("name", ["animated.webp", "pages.tif"])
def test_the_first_frame_is_read(name):
    np.testing.assert_array_equal(decode(READABLE[name]), picture())


# --- decode: what is refused


@pytest.mark.parametrize(
    ("format", "error_type"),
    [
        ("JPEG2000", "format_not_allowed"),
        ("ICO", "format_not_allowed"),
        ("EPS", "format_not_allowed"),
        ("TGA", "unidentified"),
        ("PCX", "unidentified"),
        ("SGI", "unidentified"),
    ],
)
def test_other_formats_are_refused_though_pillow_reads_them(format, error_type):
    data = encode(Image.fromarray(picture()), format)
    Image.open(io.BytesIO(data)).close()
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.error_type == error_type


def test_limits_are_inclusive():
    data = encode(Image.fromarray(picture(10, 20)), "PNG")
    assert decode(data, Limits(max_bytes=len(data), max_pixels=200)).shape == (10, 20, 3)
    for limits, error_type in (
        (Limits(max_bytes=len(data) - 1), "too_many_bytes"),
        (Limits(max_pixels=199), "too_many_pixels"),
    ):
        with pytest.raises(ImageError) as caught:
            decode(data, limits)
        assert caught.value.error_type == error_type


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (10_001, 10_000), (MAX_SIDE + 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_its_header(size):
    with pytest.raises(ImageError) as caught:
        decode(png_header(*size))
    assert caught.value.error_type == "too_many_pixels"
    assert_presentable(caught.value)


@pytest.mark.filterwarnings("error")
def test_warnings_turned_into_errors_are_image_errors_too():
    with pytest.raises(ImageError) as caught:
        decode(png_header(9_600, 9_600))  # within the limit, but over Pillow's threshold for a warning
    assert caught.value.error_type == "too_many_pixels"


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="max_pixels 0"):
        Limits(max_pixels=0)


SMALL = Image.fromarray(picture(19, 23))
SOURCES = {
    "jpeg": encode(SMALL, "JPEG", exif=exif(6)),
    "progressive": encode(SMALL, "JPEG", progressive=True),
    "cmyk": encode(SMALL.convert("CMYK"), "JPEG"),
    "png": encode(SMALL, "PNG", exif=exif(3)),
    "palette": encode(SMALL.quantize(8), "PNG", transparency=3),
    "gif": encode(SMALL.quantize(16), "GIF", save_all=True, append_images=[SMALL.rotate(90).quantize(8)]),
    "webp": encode(SMALL, "WEBP"),
    "webp lossless": encode(SMALL, "WEBP", lossless=True, exif=exif(8)),
    "tiff": encode(SMALL, "TIFF", exif=exif(5)),
    "tiff lzw": encode(SMALL, "TIFF", compression="tiff_lzw"),
    "tiff float": encode(SMALL.convert("F"), "TIFF"),
    "bmp": encode(SMALL, "BMP"),
    "ppm": encode(SMALL, "PPM"),
}


def decodes_or_says_why(data: bytes) -> str:
    """ "ok" or the error_type; anything but ImageError fails the test."""
    try:
        image = decode(data, Limits(max_pixels=1_000_000))
    except ImageError as error:
        assert_presentable(error)
        return error.error_type
    assert image.dtype == np.uint8
    assert image.ndim == 3
    return "ok"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOURCES)
def test_truncation_anywhere_is_an_image_error_at_worst(name):
    data = SOURCES[name]
    lengths = {*range(1, 120), *range(120, len(data), 1 + len(data) // 150)} - set(range(len(data), 121))
    outcomes = [decodes_or_says_why(data[:length]) for length in sorted(lengths)]
    assert outcomes.count("ok") < len(outcomes) / 2, "broken files must not pass as pictures"
    assert decodes_or_says_why(data) == "ok"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOURCES)
def test_flipped_bytes_are_an_image_error_at_worst(name):
    rng = np.random.default_rng(list(name.encode()))
    for _ in range(80):
        data = bytearray(SOURCES[name])
        for _ in range(rng.integers(1, 5)):
            reach = len(data) if rng.random() < 0.5 else min(len(data), 160)  # half of them in the header
            data[rng.integers(reach)] ^= int(rng.integers(1, 256))
        decodes_or_says_why(bytes(data))


@pytest.mark.filterwarnings("ignore")
def test_noise_behind_every_signature_is_an_image_error():
    rng = np.random.default_rng(0)
    for data in SOURCES.values():
        for keep in (4, 16, 30):
            assert decodes_or_says_why(data[:keep] + rng.bytes(300)) != "ok"


def test_default_limits_admit_a_24_megapixel_photo():
    assert DEFAULT_LIMITS.max_pixels > 24_000_000


def test_a_pointer_of_git_lfs_is_named() -> None:
    with pytest.raises(
        ImageError, match=r"a pointer of Git LFS, expected the image itself; get it with `git lfs pull`"
    ):
        decode(b"version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 12345\n")
