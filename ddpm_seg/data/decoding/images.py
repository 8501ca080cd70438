"""Decodes untrusted image files. Shapes: H x W is an image's own size."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ddpm_seg import storage
from ddpm_seg.data.decoding.formats import FORMATS, MISSING, PILLOW_ERRORS, format_of, register_plugins
from ddpm_seg.data.decoding.jpeg import jpeg_pixels
from ddpm_seg.data.decoding.leniency import jpegs_with_an_end, png_without_metadata
from ddpm_seg.data.decoding.rgb import RangeError, bands_to_rgb, image_to_rgb
from ddpm_seg.data.decoding.tiff import Layout, LayoutError, layout_of, read_bands

# A resize filter takes about 16 n bytes for a side of n pixels, and no camera or scanner makes sides this long.
MAX_SIDE = 1_000_000


class ImageError(ValueError):
    """An image that cannot be used. `error_type` is a stable short name; the text is one line, the same for the same
    bytes."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(error_type, message)  # both in args, so that pickling keeps them
        self.error_type = error_type

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an image may cost. `decode` enforces bytes and pixels, `decoding.decoder` also time and memory."""

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    decode_seconds: float = 30.0
    """Processor time, in seconds."""
    decode_memory: int = 2_000_000_000
    """Bytes on top of what the process uses before its first image."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"limits must be over 0, got {field.name} {getattr(self, field.name)}")


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """The first frame of a file."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB, C-contiguous, turned upright by its EXIF orientation."""
    format: str
    """Pillow's name of the format, such as "JPEG"."""
    turned: bool
    """Whether the stored pixels are not upright."""


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """The first frame as (H, W, 3) uint8 RGB, C-contiguous, turned upright by its EXIF orientation. Raises as `read`
    does."""
    return read(data, limits).pixels


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """The first frame, with its format and orientation.

    Drops alpha and ICC profiles, as the published code's `convert("RGB")` does. Whatever the bytes are, it raises only
    ImageError, with error_type "empty", "too_many_bytes", "too_many_pixels", "unidentified", "format_not_allowed",
    "truncated", "corrupt" or "out_of_memory". Runs in this process; use `decoder` for files from strangers.
    """
    if not data:
        raise ImageError("empty", "the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data)} bytes are over the limit of {limits.max_bytes}")
    register_plugins()
    if data.startswith(b"MM\0+"):
        raise ImageError("format_not_allowed", "a big-endian BigTIFF, which is not read; save as little-endian")
    layout = _tiff_layout(data)
    if layout is not None:
        return _read_tiff(data, layout, limits)
    try:
        return _read(data, limits)
    except ImageError as error:
        if whole := _whole_after_all(data, limits, error):
            return whole
        raise


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A PIL image of any mode, as `decode` returns its file: (H, W, 3) uint8, upright. Raises ImageError."""
    # Opened but not loaded: decode the file itself, which holds more than Pillow shows.
    if image.format == "TIFF" and getattr(image, "tile", None) and image.tell() == 0:
        image.fp.seek(0)  # type: ignore[attr-defined]
        return decode(image.fp.read())  # type: ignore[attr-defined]
    try:
        image.load()
        return _upright(image_to_rgb(image), _orientation(image))
    except RangeError as error:
        raise ImageError("format_not_allowed", str(error)) from error
    except PILLOW_ERRORS as error:
        raise _broken(error) from error


def _read(data: bytes, limits: Limits) -> Decoded:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.width, image.height, limits)
            pixels = jpeg_pixels(image, data)
            if pixels is None:
                image.load()
                pixels = image_to_rgb(image)
            orientation = _orientation(image)
            pixels = _upright(pixels, orientation)
            return Decoded(pixels=pixels, format=str(image.format), turned=orientation != 1)
    except ImageError:
        raise
    except RangeError as error:
        raise ImageError("format_not_allowed", str(error)) from error
    except UnidentifiedImageError as error:
        raise _unreadable(data) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", one_line(str(error))) from error
    except MemoryError as error:
        # The size passed the limits, so the file needs more memory than a picture of its size should.
        raise ImageError("out_of_memory", "decoding needs more memory than there is") from error
    except PILLOW_ERRORS as error:
        raise _broken(error) from error


def _whole_after_all(data: bytes, limits: Limits, error: ImageError) -> Decoded | None:
    """The picture of a refused file whose pixels are complete; None if they are not."""
    if error.error_type not in ("corrupt", "truncated"):
        return None
    try:
        if lighter := png_without_metadata(data):
            return _read(lighter, limits)
        if candidates := jpegs_with_an_end(data):
            first = _read(candidates[0], limits)
            same = all(np.array_equal(first.pixels, _read(one, limits).pixels) for one in candidates[1:])
            return first if same else None
    except ImageError:
        pass  # the first error describes the file itself
    return None


def _tiff_layout(data: bytes) -> Layout | None:
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        return None
    try:
        return layout_of(data)
    except (*PILLOW_ERRORS, MemoryError):
        return None  # let Pillow report what is wrong


def _read_tiff(data: bytes, layout: Layout, limits: Limits) -> Decoded:
    try:
        if layout.pillow_reads_it:
            return _read(data, limits)
        _check_size(layout.width, layout.height, limits)
        _check_size(*layout.chunk, limits)
        pixels = bands_to_rgb(read_bands(data, layout), layout.bits[0])
    except RangeError as error:
        raise ImageError("format_not_allowed", f"{error} (TIFF, {layout})") from error
    except LayoutError as error:
        raise ImageError("format_not_allowed", f"this TIFF layout is not read: {error}; save as 8-bit RGB") from error
    except MemoryError as error:
        raise ImageError("out_of_memory", "decoding needs more memory than there is") from error
    except ImageError:
        raise
    except PILLOW_ERRORS as error:
        raise _broken(error) from error
    orientation = layout.orientation if layout.orientation in range(1, 9) else 1
    return Decoded(pixels=_upright(pixels, orientation), format="TIFF", turned=orientation != 1)


def _broken(error: Exception) -> ImageError:
    # Pillow quotes what it cannot read, and a list may name a file that is not an image but a secret.
    text = one_line(f"{type(error).__name__}: {storage.without_content(str(error)[:10_000])}")
    # Pillow's words for an allocation that failed in a decoder; the second only in TIFF's.
    if "out of memory" in text or "decoder error -9" in text:
        return ImageError("out_of_memory", "decoding needs more memory than there is")
    truncated = isinstance(error, EOFError) or "truncated" in text.lower()
    return ImageError("truncated" if truncated else "corrupt", text)


def _check_size(width: int, height: int, limits: Limits) -> None:
    """Checks the size in the header, before any pixel is decoded."""
    if width * height > limits.max_pixels:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels are over the limit of {limits.max_pixels}")
    if max(width, height) > MAX_SIDE:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels: a side is over {MAX_SIDE}")


def _unreadable(data: bytes) -> ImageError:
    """The error if no plugin accepts the bytes. (Pillow's own message has an address, different each time.)"""
    name = format_of(data)
    if name is None:
        # Do not quote the content: a list may name a file that is not an image but a secret.
        return ImageError("unidentified", storage.lfs_pointer(data, "image") or "not an image of a known format")
    if name == "TIFF" and (layout := _tiff_layout(data)):
        return ImageError("format_not_allowed", f"this TIFF layout is not read: {layout}; save as 8-bit RGB")
    if name == "HEIF" and name in FORMATS:  # a container for any codec
        return ImageError("format_not_allowed", "a HEIC file that is damaged, or has a codec that is not read")
    if name in FORMATS:
        return ImageError("corrupt", f"begins like a {name} file, but its header cannot be read")
    remedy = f"{MISSING[name]}, or convert" if name in MISSING else "convert"
    return ImageError("format_not_allowed", f"{name} files are not read here; {remedy} to one of {', '.join(FORMATS)}")


def one_line(text: str, max_length: int = 200) -> str:
    """`text` without line breaks, control characters and marks that change the direction of writing, cut to
    `max_length`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * max_length]).split())
    return line if len(line) <= max_length else line[: max_length - 1] + "…"


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation, 1 to 8; 1 (as stored) if the metadata is broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except PILLOW_ERRORS:
        return 1
    return int(orientation) if orientation in range(1, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Does what `ImageOps.exif_transpose` does, with a third of its memory, and whatever the other tags hold."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
