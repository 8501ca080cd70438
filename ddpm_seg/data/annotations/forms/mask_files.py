"""Decodes a mask file to class ids: `.npy` arrays, and grey, colour or indexed PNGs."""

# Shapes: masks of H x W pixels.

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import MaskError
from ddpm_seg.data.annotations.pair import check_size
from ddpm_seg.data.decoding.formats import PILLOW_ERRORS, format_of
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.decoding.leniency import png_without_metadata
from ddpm_seg.tasks import UNLABELLED, Task

Color = tuple[int, ...]
"""Red, green, blue."""
GREY = ("1", "L", "I", "I;16", "I;16B")
"""Pillow's modes of grey PNGs."""
MAX_MASK_BYTES = 8 * DEFAULT_LIMITS.max_pixels  # one int64 id per pixel


def read_npy(data: bytes, image_height: int, image_width: int) -> NDArray[Any]:
    """Class ids (H, W), in the array's own integer type, for an image of the given size. Raises MaskError."""
    _refuse_pointer(data)
    file = io.BytesIO(data)
    try:
        shape, dtype = _npy_header(file)
    except Exception as error:  # NumPy evaluates the header as Python, which may raise anything
        raise MaskError(f"is not a plain NumPy array file: {' '.join(str(error).split())}") from error
    if len(shape) != 2 or 0 in shape:
        raise MaskError(f"has shape {shape}, expected (height, width)")
    if dtype.hasobject:
        raise MaskError("is not a plain NumPy array file: it holds Python objects")
    if dtype.kind not in "bui":
        raise MaskError(f"has dtype {dtype}, expected integer class ids such as uint8")
    check_size(*shape, image_height, image_width)
    if len(data) - file.tell() < shape[0] * shape[1] * dtype.itemsize:
        raise MaskError(f"is not a plain NumPy array file: {shape} of {dtype} are more than its {len(data)} bytes")
    file.seek(0)
    try:
        # Not np.load, which would also open archives.
        return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MaskError(f"is not a plain NumPy array file: {error}") from error


def _npy_header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # 3.0 differs only in field names, which masks do not have
        raise ValueError(f"version {version} of the format, expected (1, 0) or (2, 0)")
    return shape, dtype


def read_png(data: bytes, task: Task, image_height: int, image_width: int) -> NDArray[Any]:
    """Class ids (H, W), integers, for an image of the given size. Raises MaskError.

    * grey: the pixel values are the ids, or those that the task merges;
    * colour: the colours are those of the task's palette;
    * indexed: by colour if all colours used are in the task's palette, else the indices are the ids.
    """
    image = _open(data, image_height, image_width)
    if image.mode == "P":
        return _read_indexed(np.asarray(image), image.getpalette("RGB") or [], task)
    if image.mode in ("RGB", "RGBA"):
        return ids_of_colors(np.asarray(image.convert("RGB")), _ids_by_color(task), f"the palette of {task.name}")
    if image.mode in GREY:
        return merged(_grey_values(image, data), task)
    raise MaskError(f"is a PNG of mode {image.mode}; save it as grey class ids, indexed, or RGB in the task's colours")


def read_values(data: bytes, image_height: int, image_width: int) -> NDArray[Any]:
    """The values (H, W) of a grey PNG, or the indices of an indexed one, for an image of the given size. Raises
    MaskError."""
    image = _open(data, image_height, image_width)
    if image.mode != "P" and image.mode not in GREY:
        raise MaskError(f"is a PNG of mode {image.mode}; expected grey values")
    return np.asarray(image) if image.mode == "P" else _grey_values(image, data)


def read_colors(data: bytes, image_height: int, image_width: int) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) uint8 of a colour PNG, for an image of the given size. Raises MaskError."""
    return np.asarray(_open(data, image_height, image_width).convert("RGB"))


def ids_of_colors(rgb_HW3: NDArray[np.uint8], of_color: Mapping[Color | None, int], source: str) -> NDArray[Any]:
    """The number (H, W) of each pixel's colour. Raises MaskError for colours that `of_color`, which messages call
    `source`, does not have."""
    packed = rgb_HW3.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    found, where = np.unique(packed, return_inverse=True)
    colors = [((value >> 16) & 255, (value >> 8) & 255, value & 255) for value in found.tolist()]
    if strange := [color for color in colors if color not in of_color]:
        shown = ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in strange[:3]) + (", ..." if len(strange) > 3 else "")
        raise MaskError(f"holds {len(strange)} colours that are not in {source}: {shown}")
    return np.array([of_color[color] for color in colors])[where].reshape(packed.shape)


def merged(ids_HW: NDArray[Any], task: Task) -> NDArray[Any]:
    """Class ids (H, W), integers, of a mask of ids, which the task may `merge`. Raises MaskError for an id without a
    class."""
    class_of = task.mask_ids
    if not class_of:
        return ids_HW
    found, where = np.unique(ids_HW, return_inverse=True)
    class_of = {UNLABELLED: UNLABELLED, **class_of}
    if strange := [one for one in found.tolist() if one not in class_of]:
        raise MaskError(
            f"holds the ids {', '.join(map(str, strange[:5]))}{', ...' if len(strange) > 5 else ''}, which {task.name} "
            f"does not merge into a class: its merge has {', '.join(map(str, sorted(task.mask_ids)))}"
        )
    return np.array([class_of[one] for one in found.tolist()])[where].reshape(ids_HW.shape)


def _open(data: bytes, image_height: int, image_width: int) -> Image.Image:
    """Decodes a PNG. Raises MaskError if it is not one, is broken, or does not have the image's aspect ratio."""
    _refuse_pointer(data)
    width, height = _size_in_header(data)
    check_size(height, width, image_height, image_width)
    try:
        return _decoded(data, width, height)
    except MaskError:
        lighter = png_without_metadata(data)
        if lighter is None:
            raise
    return _decoded(lighter, width, height)


def _grey_values(image: Image.Image, data: bytes) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64) // _grey_step(data)


def _grey_step(data: bytes) -> int:
    """What Pillow multiplies the values of a grey PNG with: those of 2 and 4 bits it spreads over 0 to 255."""
    depth, colour_type = data[24:26]  # of the header, which Pillow has read
    return {2: 85, 4: 17}.get(depth, 1) if colour_type == 0 else 1


def _refuse_pointer(data: bytes) -> None:
    if pointer := storage.lfs_pointer(data, "mask"):
        raise MaskError(f"is {pointer}")


def _size_in_header(data: bytes) -> tuple[int, int]:
    """Width and height, before Pillow compares them with a limit of its own."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    name = format_of(data)
    if name not in (None, "PNG"):
        raise MaskError(f"is not a PNG that can be read but a {name} file; save the mask as PNG")
    fault = "its header is damaged" if name else "it does not begin like one" if data else "the file is empty"
    raise MaskError(f"is not a PNG that can be read: {fault}")


def _decoded(data: bytes, width: int, height: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        if image.size != (width, height):
            raise ValueError("it has two headers")
        image.load()
    except UnidentifiedImageError as error:  # its text is an address, different each time
        raise MaskError("is not a PNG that can be read: its header is damaged") from error
    except (*PILLOW_ERRORS, Image.DecompressionBombError) as error:
        raise MaskError(f"is not a PNG that can be read: {error}") from error
    return image


def _read_indexed(indices_HW: NDArray[np.uint8], palette: list[int], task: Task) -> NDArray[Any]:
    of_color = _ids_by_color(task) | {None: UNLABELLED}
    # Index 255 is "no class" whatever its colour, as in Pascal VOC's masks.
    colors = {i: None if i == UNLABELLED else tuple(palette[3 * i : 3 * i + 3]) for i in np.unique(indices_HW).tolist()}
    if not set(colors.values()) <= of_color.keys():
        return merged(indices_HW, task)
    table = np.zeros(256, np.uint8)
    for index, color in colors.items():
        table[index] = of_color[color]
    return table[indices_HW]


def _ids_by_color(task: Task) -> dict[Color | None, int]:
    """Class id by colour, without colours shared by several classes."""
    shared = {color for color in task.palette if task.palette.count(color) > 1}
    return {tuple(color): index for index, color in enumerate(task.palette) if color not in shared}
