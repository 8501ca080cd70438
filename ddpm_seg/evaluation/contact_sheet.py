"""The most uncertain images beside their overlays, small enough to stand inside one HTML file."""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data import images
from ddpm_seg.data.decoder import decode_and_fit
from ddpm_seg.data.overlay import Palette, colorize, overlay
from ddpm_seg.tasks import UNLABELLED

logger = logging.getLogger(__name__)

LONGEST_SIDE = 192
SHARPER = 4  # overlays are drawn this much larger than shown, so that the edges of regions come out smooth


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One image of the contact sheet; the pictures are data: URIs, and `note` says why there is no image."""

    name: str
    uri: str
    uncertainty: float
    width: int
    height: int
    image_src: str | None
    overlay_src: str
    class_ids: tuple[int, ...]
    note: str


class Labelled(Protocol):
    """What a tile says of a row of `labels`."""

    @property
    def uri(self) -> str: ...
    @property
    def uncertainty(self) -> float: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


Fetch = Callable[[Labelled, int, int], tuple[np.ndarray | None, str]]
"""The image of a row whose mask is so high and wide, (h, w, 3) uint8; or None and a sentence for the reader."""


def make_tiles(rows: Iterable[Labelled], masks: Iterable[bytes], palette: Palette, fetch: Fetch) -> Iterator[Tile]:
    """Tiles of `rows` and their `masks` (PNG) in their order.

    An image that has gone or changed leaves its mask alone, and a `note` that says so.
    """
    # Two at a time: large images are large in memory, and a store's latency is worth hiding once.
    with ThreadPoolExecutor(2) as readers:
        yield from readers.map(lambda row, mask: _tile(row, mask, palette, fetch), rows, masks)


def fetch_again(read_uris: Mapping[str, str]) -> Fetch:
    """Reads a row's image from where it was labelled; `read_uris` has the URI to read where it is not the row's own."""
    return lambda row, height, width: _fetch(read_uris.get(row.uri, row.uri), height, width)


def plain_tile(row: Labelled, image: np.ndarray) -> Tile:
    """A tile of an image (H, W, 3) uint8 that nobody has labelled."""
    _, picture = thumbnails(image, np.full(image.shape[:2], UNLABELLED, np.uint8), ((0, 0, 0),))
    return _described(row, image_src=None, overlay_src=picture, class_ids=(), note="")


def thumbnails(image: np.ndarray | None, mask: np.ndarray, palette: Palette) -> tuple[str | None, str]:
    """data: URIs of `image` (H, W, 3) uint8 and of `mask` (H, W) uint8 over it, longest side at most 192.

    Without an image the mask stands alone. Small images grow by a whole factor, every pixel a sharp square.
    """
    factor = LONGEST_SIDE // max(mask.shape)
    if factor >= 1:
        drawn = colorize(mask, palette) if image is None else overlay(image, mask, palette)
        return None if image is None else _png(_enlarge(image, factor)), _png(_enlarge(drawn, factor))
    size, work_size = _fit(mask.shape, LONGEST_SIDE), _fit(mask.shape, LONGEST_SIDE * SHARPER)
    mask = np.asarray(Image.fromarray(mask).resize(work_size, Image.Resampling.NEAREST))
    if image is None:
        return None, _jpeg(Image.fromarray(colorize(mask, palette)).resize(size, Image.Resampling.LANCZOS))
    work = Image.fromarray(image).resize(work_size, Image.Resampling.LANCZOS, reducing_gap=2)
    drawn = overlay(np.asarray(work), mask, palette)
    small = Image.fromarray(drawn).resize(size, Image.Resampling.LANCZOS)
    return _jpeg(work.resize(size, Image.Resampling.LANCZOS)), _jpeg(small)


def _tile(row: Labelled, mask_png: bytes, palette: Palette, fetch: Fetch) -> Tile:
    mask = np.asarray(Image.open(io.BytesIO(mask_png)))
    image, note = fetch(row, *mask.shape)
    image_src, overlay_src = thumbnails(image, mask, palette)
    present = tuple(int(class_id) for class_id in np.unique(mask) if class_id != UNLABELLED)
    return _described(row, image_src=image_src, overlay_src=overlay_src, class_ids=present, note=note)


def _described(
    row: Labelled, *, image_src: str | None, overlay_src: str, class_ids: tuple[int, ...], note: str
) -> Tile:
    uri = storage.redact(row.uri)
    return Tile(
        name=PurePosixPath(uri).name or uri,
        uri=uri,
        uncertainty=row.uncertainty,
        width=row.width,
        height=row.height,
        image_src=image_src,
        overlay_src=overlay_src,
        class_ids=class_ids,
        note=note,
    )


def _fetch(uri: str, height: int, width: int) -> tuple[np.ndarray | None, str]:
    """The image as it is now, (h, w, 3) uint8, no larger than is drawn; or None and a sentence for the reader.

    As the job did, in a process of its own: the file may be another by now, and the report comes last of all.
    """
    size = min(max(height, width), LONGEST_SIDE * SHARPER)
    try:
        data = storage.read_bytes(uri, max_bytes=images.DEFAULT_LIMITS.max_bytes)
        canvas, placement = decode_and_fit(data, images.DEFAULT_LIMITS, size, "letterbox")
    except (OSError, images.ImageError) as error:
        logger.warning("the report shows %s without its image: %s", storage.redact(uri), error)
        return None, "The image can't be read any more. Its mask alone."
    if (placement.image_height, placement.image_width) != (height, width):
        now = f"{placement.image_width} × {placement.image_height}"
        return None, f"Changed since: the image is {now} now. Its mask alone."
    return placement.crop(canvas), ""


def _fit(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Width and height of (H, W) within `longest`, never enlarged."""
    scale = min(1.0, longest / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _enlarge(pixels: np.ndarray, factor: int) -> np.ndarray:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _png(pixels: np.ndarray) -> str:
    return _data_uri("image/png", images.encode_png(pixels))


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, subsampling=0)
    return _data_uri("image/jpeg", buffer.getvalue())


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
