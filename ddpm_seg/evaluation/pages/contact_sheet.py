"""Tiles for pages: images with their masks over them, small enough to be embedded in one HTML file."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError
from ddpm_seg.data.domain import OUTSIDE
from ddpm_seg.data.inputs.labelled_image import VERSION, read_labelled
from ddpm_seg.data.inputs.sources import is_in_container
from ddpm_seg.data.overlay import Palette
from ddpm_seg.data.schema import DOMAIN_DISTANCE
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.pages.layers import LONGEST_SIDE, SHARP_BELOW, image_layer, mask_layer
from ddpm_seg.tasks import UNLABELLED

logger = logging.getLogger(__name__)

DIFFERENT = (230, 30, 40)
"""Colour of pixels where two masks differ."""

SHARPER = 2  # images are decoded this much larger than shown, so that downscaling looks good


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One image of a contact sheet. Pictures are data: URIs; `note` says why there is no image."""

    name: str
    uri: str
    uncertainty: float
    width: int
    height: int
    image_src: str | None
    mask_srcs: tuple[str, ...]
    """One mask, or two where models are compared; none if the image is not labelled."""
    areas: tuple[dict[int, float], ...]
    """For each mask, the share of the pixels by class, largest first."""
    note: str
    difference_src: str | None = None
    """Where two masks differ."""
    heat_src: str | None = None
    """Where in the image the model is unsure, if the table says."""
    link: str | None = None
    """Where a browser finds the image itself; None if it cannot."""
    distance: float | None = None
    """The row's `domain_distance`, if it has one."""

    @property
    def sharp(self) -> bool:
        """Whether the picture is so small that it should be shown with sharp pixels."""
        return max(self.width, self.height) <= SHARP_BELOW

    @property
    def unlike(self) -> bool:
        """Whether the image is unlike those that the model was trained on."""
        return self.distance is not None and self.distance > OUTSIDE

    @property
    def class_ids(self) -> list[int]:
        return sorted(set().union(*self.areas))

    @property
    def class_ids_by_area(self) -> list[int]:
        """Those with the largest share of the pixels first, where models are compared of the last one's."""
        return sorted(self.class_ids, key=lambda class_id: -self.areas[-1].get(class_id, 0.0))


class Labelled(Protocol):
    """The columns of `labels` that a tile shows."""

    @property
    def uri(self) -> str: ...
    @property
    def uncertainty(self) -> float: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


Fetch = Callable[[Labelled, int, int], tuple[NDArray[np.uint8] | None, str]]
"""Takes a row and the height and width of its mask; returns the image (h, w, 3) uint8, or None and a sentence for the
page."""


def make_tiles(rows: Iterable[Labelled], masks: Iterable[bytes], palette: Palette, fetch: Fetch) -> Iterator[Tile]:
    """Yields the tiles of `rows` and their `masks` (PNG), in that order.

    If an image is gone or has changed, its tile has only the mask, and a `note` that says so.
    """
    # Two at a time: hides some of a store's latency without holding many large images in memory.
    with ThreadPoolExecutor(2) as readers:
        yield from readers.map(lambda row, mask: make_tile(row, [mask], palette, fetch), rows, masks)


def fetch_again(read_uris: Mapping[str, str]) -> Fetch:
    """Reads a row's image from where it was labelled; `read_uris` maps a row's URI to the one to read, where they
    differ."""
    return lambda row, height, width: _fetch(read_uris.get(row.uri, row.uri), row, height, width)


def plain_tile(row: Labelled, image: NDArray[np.uint8]) -> Tile:
    """The tile of an image (H, W, 3) uint8 without labels."""
    return _described(row, image_layer(image), (), (), "")


def make_tile(row: Labelled, masks: Sequence[bytes], palette: Palette, fetch: Fetch) -> Tile:
    """The tile of `row` with its `masks` (PNGs of one size), the older model's first."""
    about = {"uri": row.uri, "width": row.width, "height": row.height}
    drawn = [row_mask({**about, "mask": mask}, file=getattr(row, "file", "")) for mask in masks]
    image, note = fetch(row, *drawn[0].shape)
    layers = tuple(mask_layer(mask, palette) for mask in drawn)
    tile = _described(row, None if image is None else image_layer(image), layers, tuple(map(_areas, drawn)), note)
    if len(drawn) != 2:
        return tile
    differs = np.where(drawn[0] != drawn[1], 0, UNLABELLED).astype(np.uint8)
    return dataclasses.replace(tile, difference_src=mask_layer(differs, (DIFFERENT,)))


def _areas(mask: NDArray[np.uint8]) -> dict[int, float]:
    counts = np.bincount(mask.reshape(-1), minlength=256)
    found = [class_id for class_id in np.argsort(-counts, kind="stable").tolist() if counts[class_id]]
    return {class_id: counts[class_id] / mask.size for class_id in found if class_id != UNLABELLED}


def _described(
    row: Labelled, image_src: str | None, mask_srcs: tuple[str, ...], areas: tuple[dict[int, float], ...], note: str
) -> Tile:
    uri = storage.redact(row.uri)
    return Tile(
        name=PurePosixPath(uri).name or uri,
        uri=uri,
        uncertainty=row.uncertainty,
        width=row.width,
        height=row.height,
        image_src=image_src,
        mask_srcs=mask_srcs,
        areas=areas,
        note=note,
        link=_link(uri),
        distance=getattr(row, DOMAIN_DISTANCE.name, None),  # rows of other tables do not have it
    )


def _link(uri: str) -> str | None:
    """A link to an image that a browser can open: on a web server, or a file on this machine."""
    if is_in_container(uri):
        return None
    return PurePosixPath(uri).as_uri() if uri.startswith("/") else uri if storage.is_http(uri) else None


def _fetch(uri: str, row: Labelled, height: int, width: int) -> tuple[NDArray[np.uint8] | None, str]:
    """The image as it is now, (h, w, 3) uint8, reduced to about the size shown; or None and a sentence for the page.

    Decodes in a separate process, as the job does: the file may have been replaced, and a crash must not lose the
    report.
    """
    size = min(max(height, width), LONGEST_SIDE * SHARPER)
    try:
        # Rows of some tables do not say which version of the image they are about.
        data = read_labelled(uri, {name: getattr(row, name, None) for name in VERSION})
        canvas, placement = decode_and_fit(data, DEFAULT_LIMITS, size, "letterbox")
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError) and error.error_type == "changed":
            return None, "The image has been replaced since; only its mask is shown."
        logger.warning("the report shows %s without its image: %s", storage.redact(uri), error)
        return None, "The image can't be read any more; only its mask is shown."
    if (placement.image_height, placement.image_width) != (height, width):
        now = f"{placement.image_width} × {placement.image_height}"
        return None, f"The image has changed: it is {now} now; only its mask is shown."
    return placement.crop(canvas), ""
