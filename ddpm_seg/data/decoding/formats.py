"""The image formats that are read, their file extensions and their signatures."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import struct
import zlib

from PIL import AvifImagePlugin, ImageCms, features

# Formats with widely used decoders. Left out on purpose: formats without a signature (TGA), those that need an
# interpreter (EPS, WMF), those whose decoders often have holes (JPEG 2000, PSD, FLI ...), and JPEG XL, whose plugin
# decodes before it tells the size.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
# Listed all the same, so that each gets a row that says what to do.
_NOT_READ = (".jp2", ".j2k", ".jpf", ".jpx", ".jxl")
EXTENSIONS = frozenset((*itertools.chain(*_SUFFIXES.values()), *_NOT_READ))

_INSTALLED = {"AVIF": features.check("avif"), "HEIF": importlib.util.find_spec("pillow_heif") is not None}
MISSING = {"AVIF": "install a Pillow built with libavif", "HEIF": "pip install 'ddpm_seg[heic]'"}
"""Formats that not every installation reads, and what to do."""
FORMATS = tuple(name for name in _SUFFIXES if _INSTALLED.get(name, True))
"""Pillow's names of the formats that this installation reads."""

# (offset, signature, name), to tell apart broken pictures, pictures of other formats, and other files.
SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    *((0, b"P%d" % kind, "PPM") for kind in range(1, 7)),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    *((4, b"ftyp" + brand, "HEIF") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"jP  \r\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"8BPS", "PSD"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"<svg", "SVG"),
    (0, b"%!PS", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"SIMPLE  =", "FITS"),
)


def format_of(data: bytes) -> str | None:
    """The format that a file begins like, as `SIGNATURES` names it; None if it begins like none of them."""
    return next((name for offset, signature, name in SIGNATURES if data.startswith(signature, offset)), None)


# What Pillow raises on broken bytes. Its plugins parse headers in Python with few checks, so a wrong length or tag
# can raise almost anything.
PILLOW_ERRORS = (
    OSError,  # truncated data, decoder failures, libtiff and WebP errors
    SyntaxError,  # what Pillow raises for a malformed header or chunk
    ValueError,  # sizes, modes and text chunks out of bounds, UnicodeDecodeError
    EOFError,  # a header without a frame behind it
    struct.error,  # a field cut short
    zlib.error,  # a compressed chunk outside the pixel data
    IndexError,  # a table or palette shorter than it says
    KeyError,  # an unknown compression, mode or tag
    TypeError,  # a tag of another type or count than expected
    AttributeError,  # a missing tag or palette taken for granted
    ArithmeticError,  # ZeroDivisionError and OverflowError from sizes and rationals
    AssertionError,  # Pillow asserts the presence of parts of a file
    RuntimeError,  # NotImplementedError and codec failures
    ImageCms.PyCMSError,  # LAB pixels that cannot be converted
    Warning,  # if the caller's filters turn Pillow's warnings into errors
)


@functools.cache
def register_plugins() -> None:
    """Makes Pillow read all of `FORMATS`, with one thread per decoder."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if "HEIF" in FORMATS:
        heif = importlib.import_module("pillow_heif")
        heif.options.DECODE_THREADS = 1
        heif.register_heif_opener(thumbnails=False)
