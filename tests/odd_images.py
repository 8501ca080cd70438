"""Writes a folder of odd and broken images, as strangers have them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image


def picture(height: int = 40, width: int = 56) -> np.ndarray:
    """(H, W, 3) uint8: smooth, without symmetry, so that every turn and mirror image of it is another picture."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([255 * x, 255 * y, 127 + 127 * np.sin(4 * x + 2 * y)], axis=2).astype(np.uint8)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A well-formed PNG of a few bytes that claims any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


def write_odd_images(folder: Path) -> dict[str, str]:
    """Writes the files and returns file name -> "ok", or the `error_type` that decoding it ends in."""
    readable, broken = readable_images(), broken_images()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in readable.items():
        (folder / name).write_bytes(data)
    for name, (data, _) in broken.items():
        (folder / name).write_bytes(data)
    return dict.fromkeys(readable, "ok") | {name: error_type for name, (_, error_type) in broken.items()}


def readable_images() -> dict[str, bytes]:
    """File name -> bytes of images that must be read."""
    rgb = Image.fromarray(picture())
    turned = Image.fromarray(np.ascontiguousarray(picture()[::-1, ::-1]))
    grey = picture()[:, :, 0]
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(grey))
    return {
        "alpha.png": encode(alpha, "PNG"),
        "animated.gif": encode(rgb.quantize(32), "GIF", save_all=True, append_images=[turned.quantize(32)]),
        "animated.webp": encode(rgb, "WEBP", lossless=True, save_all=True, append_images=[turned]),
        "bilevel.tif": encode(rgb.convert("1"), "TIFF", compression="group4"),
        "bitmap.bmp": encode(rgb, "BMP"),
        "broken exif.jpg": encode(rgb, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(40))),
        "cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "float.tiff": encode(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "grey16.pgm": b"P5 2 2 65535\n" + struct.pack(">4H", 0, 20000, 40000, 65535),
        "grey16.png": encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "grey alpha.png": encode(rgb.convert("LA"), "PNG"),
        "lab.tif": encode(Image.frombytes("LAB", (2, 1), bytes([0, 0, 0, 255, 0, 0])), "TIFF"),
        "one pixel.png": encode(Image.new("RGB", (1, 1), "red"), "PNG"),
        "pages.tif": encode(rgb, "TIFF", save_all=True, append_images=[turned]),
        "palette.png": encode(rgb.quantize(8), "PNG", transparency=bytes([0, 100, 200])),
        "photo [1] ü 100%.png": encode(rgb, "PNG"),
        "really a png.jpg": encode(rgb, "PNG"),
        "rotated.jpg": encode(rgb, "JPEG", exif=exif(6)),
        "shouting.JPG": encode(rgb, "JPEG", progressive=True),
        "tall.png": encode(Image.fromarray(picture(1500, 1)), "PNG"),
        "wide.png": encode(Image.fromarray(picture(1, 1500)), "PNG"),
    }


def broken_images() -> dict[str, tuple[bytes, str]]:
    """File name -> (bytes, error_type) of images that cannot be read."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    png = encode(Image.fromarray(noise), "PNG")
    jpeg = encode(Image.fromarray(noise), "JPEG")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    return {
        "bomb.png": (png_header(50_000, 50_000), "too_many_pixels"),
        "checksum.png": (bytes(flipped), "corrupt"),
        "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "format_not_allowed"),
        "empty.jpg": (b"", "empty"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "half.png": (png[: len(png) // 2], "truncated"),
        "no frame.gif": (b"GIF89a\x08\0\x08\0\0\0\0;", "corrupt"),
        "not found.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "unidentified"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "format_not_allowed"),
        "signature only.png": (png[:8], "corrupt"),
        "zero width.png": (png_header(0, 40), "corrupt"),
        "zeros.webp": (bytes(5000), "unidentified"),
    }
