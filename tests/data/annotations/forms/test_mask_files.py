from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.errors import MaskError
from ddpm_seg.data.annotations.forms import mask_files
from ddpm_seg.tasks import TASKS, Task

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
TASK = Task(name="three", class_names=("a", "b", "c"), palette=(RED, GREEN, BLUE), ignore_label=None)
IDS = np.array([[0, 1, 2], [2, 1, 255]], dtype=np.uint8)


def read_png(data: bytes, task: Task) -> np.ndarray:
    """Of an image of the mask's own size."""
    try:
        width, height = Image.open(io.BytesIO(data)).size
    except OSError:
        width = height = 64
    return mask_files.read_png(data, task, height, width)


def read_as_ids(data: bytes, height: int, width: int) -> np.ndarray:
    return mask_files.read_png(data, TASK, height, width)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def indexed(indices: np.ndarray, palette: dict[int, tuple[int, int, int]]) -> bytes:
    image = Image.fromarray(indices).convert("L")
    image.putpalette([value for index in range(256) for value in palette.get(index, (7, 7, 7))])
    return png(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_are_the_ids(dtype: type) -> None:
    np.testing.assert_array_equal(read_png(png(Image.fromarray(IDS.astype(dtype))), TASK), IDS)


@pytest.mark.parametrize("task", list(TASKS.values()), ids=list(TASKS))
def test_every_tasks_own_colours_come_back_as_ids(task: Task) -> None:
    ids = np.arange(task.num_classes, dtype=np.uint8).reshape(1, -1)
    colors = np.array(task.palette, np.uint8)[ids]
    np.testing.assert_array_equal(read_png(png(Image.fromarray(colors)), task), ids)
    opaque = np.concatenate([colors, np.full((*ids.shape, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(read_png(png(Image.fromarray(opaque)), task), ids)


def test_indices_are_ids_unless_their_colours_say_otherwise() -> None:
    # Another program's palette, as Pascal VOC's: the indices count.
    np.testing.assert_array_equal(read_png(indexed(IDS, {1: (128, 0, 0)}), TASK), IDS)
    # The task's own colours in another order, as an image editor saves them: the colours count, and 255 stays.
    shuffled = np.array([4, 9, 3], np.uint8)[IDS.clip(max=2)]
    shuffled[IDS == 255] = 255
    np.testing.assert_array_equal(read_png(indexed(shuffled, {4: RED, 9: GREEN, 3: BLUE}), TASK), IDS)


def test_strange_colours_are_named() -> None:
    colors = np.array([[RED, (1, 2, 3)], [(254, 0, 0), GREEN]], np.uint8)
    with pytest.raises(MaskError, match="holds 2 colours that are not in the palette of three: #010203, #fe0000"):
        read_png(png(Image.fromarray(colors)), TASK)


def test_a_colour_of_two_classes_names_neither() -> None:
    task = Task(name="t", class_names=("a", "b"), palette=(RED, RED))
    with pytest.raises(MaskError, match="#ff0000"):
        read_png(png(Image.new("RGB", (2, 2), RED)), task)


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"GIF89a", png(Image.effect_noise((64, 64), 99))[:1000]])
def test_broken_files_are_named(data: bytes) -> None:
    with pytest.raises(MaskError, match="is not a PNG that can be read"):
        read_png(data, TASK)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_values_of_any_depth_are_the_ids(bits: int) -> None:
    ids = np.arange(2**bits if bits < 8 else 256).reshape(-1, 2)
    digits = (ids[..., None] >> np.arange(bits)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row.astype(np.uint8)).tobytes() for row in digits.reshape(len(ids), -1))
    start = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, len(ids), bits, 0, 0, 0, 0))
    data = start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(mask_files.read_png(data, TASK, len(ids), 2), ids)


@pytest.mark.parametrize("read", [read_as_ids, mask_files.read_colors])
def test_the_size_is_compared_before_anything_is_decoded(read: Callable[[bytes, int, int], np.ndarray]) -> None:
    huge = SIGNATURE + header(20_000, 20_000) + END
    with pytest.raises(MaskError, match=r"is 20000 x 20000 .*expected 1 to 100000000 pixels"):
        read(huge, 20_000, 20_000)
    with pytest.raises(MaskError, match=r"is 20000 x 8 .*its image 8 x 8: the aspect ratios differ"):
        read(SIGNATURE + header(20_000, 8) + END, 8, 8)
    for second in (header(9, 9), header(20_000, 20_000)):
        with pytest.raises(MaskError, match="is not a PNG that can be read"):
            read(SIGNATURE + header(8, 8) + second + END, 8, 8)


@pytest.mark.parametrize("read", [read_as_ids, mask_files.read_colors, mask_files.read_npy])
def test_a_pointer_of_git_lfs_is_named(read: Callable[[bytes, int, int], np.ndarray]) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 12345\n"
    with pytest.raises(MaskError, match=r"is a pointer of Git LFS, .* `git lfs pull`"):
        read(pointer, 8, 8)


def test_a_file_of_another_format_is_named() -> None:
    jpeg = io.BytesIO()
    Image.fromarray(IDS).save(jpeg, "JPEG")
    for data, fault in (
        (jpeg.getvalue(), "but a JPEG file; save the mask as PNG"),
        (b"", "the file is empty"),
        (b"text", "it does not begin like one"),
        (SIGNATURE[:6], "its header is damaged"),
        (SIGNATURE + header(8, 8)[:-1] + b"?", "its header is damaged"),
    ):
        with pytest.raises(MaskError, match=f"is not a PNG that can be read:? {fault}") as caught:
            read_as_ids(data, 8, 8)
        assert "object at 0x" not in str(caught.value)


def test_metadata_that_pillow_refuses_costs_no_mask() -> None:
    data = png(Image.fromarray(IDS))
    text = chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(b" " * 2_000_000))
    heavy = data[:33] + text + data[33:]
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(heavy)).load()
    np.testing.assert_array_equal(read_as_ids(heavy, *IDS.shape), IDS)


def test_grey_with_alpha_is_refused() -> None:
    with pytest.raises(MaskError, match="mode LA"):
        read_png(png(Image.new("LA", (2, 2))), TASK)
