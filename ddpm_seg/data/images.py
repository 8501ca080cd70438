"""Decoding images that cannot be trusted, fitting them to the network's square, and bringing masks back.

Shapes: H x W an image's own size, S x S the network's square, h x w the image's part of that square (its content box).
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from ddpm_seg.printable import without_content

# Usual formats with well-worn decoders. Left out on purpose: formats without a signature (TGA), with an interpreter
# behind them (EPS, WMF), or with a young or often broken decoder (AVIF, JPEG 2000, PSD, FLI ...).
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
FORMATS = tuple(_SUFFIXES)
EXTENSIONS = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)

# A filter for a side of n pixels takes some 16 n bytes, and no camera or scanner makes sides this long.
MAX_SIDE = 1_000_000

# (offset, signature, format), to tell a broken picture from a picture of another format from something else.
SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    *((0, b"P%d" % kind, "PPM") for kind in range(1, 7)),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
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

# What Pillow raises on broken bytes. Its plugins parse headers in Python with few checks, so a wrong length or tag
# surfaces as whatever it breaks.
PILLOW_ERRORS = (
    OSError,  # truncated data, decoder failures, libtiff and WebP errors
    SyntaxError,  # Pillow's own word for a malformed header or chunk
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
    Warning,  # where the caller's filters turn Pillow's warnings into errors
)

FitMode = Literal["letterbox", "stretch"]
"""How an image that is not square meets the network's square."""


class ImageError(ValueError):
    """An image that cannot be used. `error_type` is a stable short name; the text, one line, never varies."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(error_type, message)  # both in args, so that it survives pickling
        self.error_type = error_type

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an image may cost. `decode` knows bytes and pixels; `data.decoder` holds it to the other two as well."""

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    decode_seconds: float = 30.0
    """Processor time."""
    decode_memory: int = 2_000_000_000
    """Bytes above what the process takes before its first image."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"limits must be over 0, got {field.name} {getattr(self, field.name)}")


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where an image lies on the network's square: its content box, and the own size that masks return to."""

    left: int
    top: int
    width: int
    height: int
    image_width: int
    image_height: int

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """The content box of an (S, S, ...) array, as a view (h, w, ...). ValueError where it does not lie inside."""
        if canvas.shape[0] < self.top + self.height or canvas.shape[1] < self.left + self.width:
            raise ValueError(f"{self} does not lie on a canvas of shape {canvas.shape}")
        return canvas[self.top : self.top + self.height, self.left : self.left + self.width]


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """The first frame as (H, W, 3) uint8 RGB, C-contiguous, upright by its EXIF orientation.

    Alpha and ICC profiles are dropped, as `convert("RGB")` in the published code drops them. Whatever the bytes hold,
    raises nothing but ImageError, of error_type "empty", "too_many_bytes", "too_many_pixels", "unidentified",
    "format_not_allowed", "truncated", "corrupt" or "out_of_memory".
    """
    if not data:
        raise ImageError("empty", "the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data)} bytes are over the limit of {limits.max_bytes}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size, limits)
            image.load()
            return _upright(_to_rgb(image), _orientation(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unreadable(data) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", one_line(str(error))) from error
    except MemoryError as error:
        # Its size passed the limits, so it is the file that asks for more than a picture of that size needs.
        raise ImageError("out_of_memory", "decoding needs more memory than there is") from error
    except PILLOW_ERRORS as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ImageError:
    # Pillow quotes what it cannot read, and a list may name a file that holds no image but a secret.
    text = one_line(f"{type(error).__name__}: {without_content(str(error)[:10_000])}")
    # How Pillow words an allocation that failed in one of its decoders; the second in TIFF's alone.
    if "out of memory" in text or "decoder error -9" in text:
        return ImageError("out_of_memory", "decoding needs more memory than there is")
    truncated = isinstance(error, EOFError) or "truncated" in text.lower()
    return ImageError("truncated" if truncated else "corrupt", text)


def _check_size(width: int, height: int, limits: Limits) -> None:
    """Judges the header's word, before any pixel is decoded."""
    if width * height > limits.max_pixels:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels are over the limit of {limits.max_pixels}")
    if max(width, height) > MAX_SIDE:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels: a side is over {MAX_SIDE}")


def _unreadable(data: bytes) -> ImageError:
    """What to say where no plugin takes the bytes. (Pillow's own message holds an address, another one each time.)"""
    for offset, signature, name in SIGNATURES:
        if data.startswith(signature, offset):
            if name in FORMATS:
                return ImageError("corrupt", f"begins like a {name} file, but its header cannot be read")
            message = f"{name} files are not read; convert to one of {', '.join(FORMATS)}"
            return ImageError("format_not_allowed", message)
    # Nothing of the content: a list may name a file that holds no image but a secret.
    return ImageError("unidentified", "not an image of a known format")


def one_line(text: str, max_length: int = 200) -> str:
    """`text` without line breaks, control characters and what turns the direction of writing, cut to `max_length`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * max_length]).split())
    return line if len(line) <= max_length else line[: max_length - 1] + "…"


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1 to 8; 1, the pixels as stored, where the metadata is broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except PILLOW_ERRORS:
        return 1
    return int(orientation) if orientation in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What `ImageOps.exif_transpose` does, in a third of its memory and whatever the other tags hold."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Loaded image of any mode to (H, W, 3) uint8: `convert("RGB")`, except where that clips or knows no way."""
    if image.mode.startswith("I"):  # I;16 in its byte orders, and I, in which Pillow keeps 16-bit PGM
        # Integer division, rounding to nearest: 65535 / 255 == 257. In place, as large scans take gigabytes.
        white = _white_level(image)
        values = np.array(image).astype(np.int32, copy=False)
        np.clip(values, 0, white, out=values)
        values *= 255
        values += white // 2
        values //= white
        return _grey_to_rgb(values)
    if image.mode == "F":
        # Float images are in [0, 1] or [0, 255]. The overshoot that filters leave must not turn the first into the
        # second, hence 2. NaN becomes black.
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
        scale = 255.0 if values.max() <= 2 else 1.0
        return _grey_to_rgb(np.rint((values * scale).clip(0, 255)))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.array(ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB")))
    image.info.pop("transparency", None)  # alpha is dropped anyway; converting it too can only warn or fail
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _white_level(image: Image.Image) -> int:
    bits = getattr(image, "tag_v2", {}).get(258)  # TIFF BitsPerSample: Pillow keeps 12-bit samples unscaled
    return 4095 if bits == (12,) else 65535


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def fit(image: np.ndarray, size: int, mode: FitMode = "letterbox") -> tuple[np.ndarray, Placement]:
    """(H, W, 3) uint8 to the network's (S, S, 3) uint8, with the way back.

    Pillow's BILINEAR, which averages when it shrinks: what torchvision's Resize does to Pillow images in the published
    code, and for a square image the same bytes. "letterbox" keeps the aspect, centres the image and repeats its edge
    pixels outwards; "stretch" fills the square.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"expected an image (H, W, 3) uint8 of at least one pixel, got {image.shape} {image.dtype}")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if mode not in ("letterbox", "stretch"):
        raise ValueError(f'mode must be "letterbox" or "stretch", got {mode!r}')
    image_height, image_width = image.shape[:2]
    width = height = size
    if mode == "letterbox":
        longest = max(image_width, image_height)
        width = max(1, (2 * image_width * size + longest) // (2 * longest))  # rounded, halves up
        height = max(1, (2 * image_height * size + longest) // (2 * longest))
    left, top = (size - width) // 2, (size - height) // 2
    placement = Placement(
        left=left, top=top, width=width, height=height, image_width=image_width, image_height=image_height
    )
    content = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    padding = ((top, size - height - top), (left, size - width - left), (0, 0))
    return np.pad(content, padding, mode="edge"), placement


def restore_mask(label: np.ndarray, placement: Placement) -> np.ndarray:
    """Label (S, S) uint8 to the image's own (H, W) uint8: padding cut off, nearest by the pixel-centre rule.

    A pixel takes the class of the label pixel that its centre falls into, so enlarging keeps every class.
    """
    rows = nearest(placement.height, placement.image_height)
    columns = nearest(placement.width, placement.image_width)
    # Columns first: the second step then copies whole rows.
    return placement.crop(label).take(columns, axis=1).take(rows, axis=0)


def nearest(source: int, target: int) -> np.ndarray:
    """The one of `source` cells for each of `target` cells: floor((i + 1/2) source / target), exact in integers."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)


def encode_png(array: np.ndarray) -> bytes:
    """(H, W) grey or (H, W, 3) RGB uint8 to PNG; the same bytes for the same array under the same Pillow."""
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"expected (H, W) or (H, W, 3) uint8, got {array.shape} {array.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()
