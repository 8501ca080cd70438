"""One conversion to RGB: for PIL images of every mode, for their files, and for values without a fixed white."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.decoding.images import ImageError, decode, to_rgb
from tests.data.decoding.tiff_layouts import Layout, write
from tests.odd_images import encode, exif, picture

# Mode: a format that keeps it without loss.
KEPT = {"1": "PNG", "L": "PNG", "LA": "PNG", "P": "PNG", "RGB": "PNG", "RGBA": "PNG", "I;16": "PNG"}
KEPT |= {"I": "TIFF", "F": "TIFF", "CMYK": "TIFF", "LAB": "TIFF", "YCbCr": "TIFF", "PA": "TIFF", "I;16B": "TIFF"}


def image_of(mode: str) -> Image.Image:
    rgb = Image.fromarray(picture())
    grey = np.asarray(rgb.convert("L"))
    if mode.startswith("I"):
        stored = (grey.astype(np.int32) * 257).astype({"I": "<i4", "I;16": "<u2", "I;16B": ">u2"}[mode])
        return Image.frombytes(mode, (56, 40), stored.tobytes())
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    if mode == "LAB":
        noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
        return Image.frombytes("LAB", (56, 40), noise.tobytes())
    if mode == "PA":
        return rgb.quantize(16).convert("PA")
    return rgb.convert(mode)


@pytest.mark.parametrize("mode", KEPT)
def test_a_pil_image_gives_the_pixels_of_its_file(mode: str) -> None:
    image = image_of(mode)
    assert image.mode == mode
    try:
        data = encode(image, KEPT[mode])
    except (OSError, KeyError, ValueError):
        pytest.skip(f"this Pillow does not write {mode}")
    assert np.array_equal(to_rgb(image), decode(data))
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(to_rgb(opened), decode(data))


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "F", "L"])
def test_greys_of_every_depth_are_those_of_eight_bits(mode: str) -> None:
    image = image_of(mode)
    grey = np.asarray(Image.fromarray(picture()).convert("L"))
    assert np.array_equal(to_rgb(image), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["HSV", "RGBX", "La", "RGBa", "YCbCr", "CMYK", "PA", "LA"])
def test_modes_without_a_file_are_converted_too(mode: str) -> None:
    rgb = Image.fromarray(picture())
    if mode in ("La", "RGBa"):
        image = rgb.convert(mode.upper()).convert(mode)
    else:
        image = rgb.quantize(16).convert("PA") if mode == "PA" else rgb.convert(mode)
    grey = mode in ("La", "LA")
    wanted = rgb.convert("L").convert("RGB") if grey else rgb.quantize(16).convert("RGB") if mode == "PA" else rgb
    assert np.abs(to_rgb(image).astype(int) - np.asarray(wanted)).max() <= (8 if mode == "HSV" else 4)


def test_transparency_and_orientation_of_a_pil_image() -> None:
    image = Image.open(io.BytesIO(encode(Image.fromarray(picture()).quantize(8), "PNG", transparency=bytes([0, 100]))))
    assert np.array_equal(to_rgb(image), np.asarray(Image.fromarray(picture()).quantize(8).convert("RGB")))
    assert "transparency" in image.info, "the caller's image is as it was"
    turned = Image.open(io.BytesIO(encode(Image.fromarray(picture()), "PNG", exif=exif(6))))
    assert np.array_equal(to_rgb(turned), np.rot90(picture(), -1))


def test_a_pil_image_of_a_broken_file_is_an_image_error() -> None:
    whole = encode(Image.fromarray(picture()), "PNG")
    with pytest.raises(ImageError) as caught:
        to_rgb(Image.open(io.BytesIO(whole[: len(whole) // 2])))
    assert caught.value.error_type == "truncated"


def tiff(values: np.ndarray, samples: str) -> bytes:
    return write(Layout(kind="grey" if values.shape[2] == 1 else "rgb", samples=samples), values)


ramp = np.linspace(0, 1, 30 * 40).reshape(30, 40, 1)
WRONG_RANGES = {
    "u32 of 0 to 255": (np.rint(ramp * 255).astype(np.uint64), "u32", "from 0 to 255"),
    "u32 over 16 bits": (np.rint(ramp * 1e6).astype(np.uint64), "u32", "from 0 to 1000000"),
    "heights": (np.rint(ramp * 3000 - 400).astype(np.int16), "i16", "from -400 to 2600"),
    "f32 of 0 to 65535": ((ramp * 65535).astype(np.float32), "f32", "from 0 to 65535"),
    "no data": (np.where(ramp < 0.1, -9999, ramp).astype(np.float32), "f32", "from -9999 to 1"),
    "infinite": (np.where(ramp < 0.1, np.inf, ramp).astype(np.float32), "f32", "to inf"),
    "one hot pixel": (np.where(ramp == 1, 5.0, ramp).astype(np.float32), "f32", "from 0 to 5"),
    "one very hot pixel": (np.where(ramp == 1, 200.0, ramp).astype(np.float64), "f64", "from 0 to 200"),
    "hot RGB": (np.where(ramp == 1, 5.0, ramp).astype(np.float32).repeat(3, axis=2), "f32", "from 0 to 5"),
}


@pytest.mark.parametrize("name", WRONG_RANGES)
def test_values_without_a_known_white_are_an_error_that_says_their_range(name: str) -> None:
    values, samples, said = WRONG_RANGES[name]
    with pytest.raises(ImageError) as caught:
        decode(tiff(values, samples))
    assert caught.value.error_type == "format_not_allowed"
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("values", "samples"),
    [
        (ramp, "f32"),
        (ramp * 255, "f32"),
        (ramp * 255, "f64"),
        (ramp, "f16"),
        (ramp.repeat(3, axis=2), "f32"),
        (np.rint(ramp * 65535), "u32"),
        (np.rint(ramp * 65535), "i32"),
        (np.rint(ramp * 4095), "u12"),
        (np.rint(ramp * 1023), "u10"),
        (np.rint(ramp * 65535), "u16"),
    ],
)
def test_values_with_a_known_white(values: np.ndarray, samples: str) -> None:
    kinds = {"f": f"f{int(samples[1:]) // 8}", "i": "i4", "u": "u8"}
    found = decode(tiff(values.astype(kinds[samples[0]]), samples))
    assert np.abs(found - ramp * 255).max() <= 0.7


def test_what_is_black_overshoots_or_is_not_a_number() -> None:
    assert decode(tiff(np.zeros((4, 4, 1), np.uint64), "u32")).max() == 0
    over = np.where(ramp == 1, 1.2, ramp - 0.1).astype(np.float32)
    assert decode(tiff(over, "f32")).max() == 255
    holes = np.where(ramp < 0.5, np.nan, ramp).astype(np.float32)
    assert decode(tiff(holes, "f32"))[0, 0].tolist() == [0, 0, 0]
    dark = b"P5 2 1 65535\n" + np.array([0, 250], ">u2").tobytes()  # which says that 65535 is white
    assert decode(dark).reshape(-1).tolist() == [0, 0, 0, 1, 1, 1]
