"""One labelled image on its way into another tool."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.tasks import UNLABELLED

# What browsers and annotation tools show as it is. Others, and those that are to be turned, become PNGs.
PLAIN_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A row of `labels` with its image."""

    name: str
    """Of its files, without a suffix: unique, and safe in any folder."""
    uri: str
    mask: np.ndarray
    """(H, W) uint8 class ids; 255 is no class. Without a pixel if the image has no mask yet."""
    uncertainty: float
    """NaN without a mask, as `mean_confidence`."""
    mean_confidence: float
    model_id: str
    image: bytes
    """A file that any tool can show, upright and of the mask's size; empty where the format only refers to `uri`."""
    suffix: str
    """Of `image`: ".jpg", ".png" or ".webp"."""

    @property
    def file_name(self) -> str:
        return self.name + self.suffix

    def classes(self) -> Iterator[tuple[int, np.ndarray]]:
        """(class id, bool (H, W)) of each class that the mask has."""
        for class_id in np.unique(self.mask).tolist():
            if class_id != UNLABELLED:
                yield class_id, self.mask == class_id

    def write_image(self, folder: str) -> None:
        storage.write_bytes(storage.join(folder, self.file_name), self.image)


def safe_name(uri: str, image_id: str) -> str:
    """The name of an export's file, without suffix: it holds letters, digits, `_` and `-` alone.

    Both come from a table that anybody may have written, so that neither may lead out of the export's folder. The
    file's own name comes first, then enough of a digest to be unique: `image_id` is one, and any other text gets one.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(uri).stem)[:60].strip("_")
    is_digest = re.fullmatch(r"[0-9a-f]{32}", image_id)
    digest = image_id if is_digest else hashlib.blake2b(image_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{stem}-{digest[:12]}" if stem else digest[:12]


def showable(data: bytes, height: int, width: int) -> tuple[bytes, str]:
    """An image file as any tool can show it, and its suffix: itself, or a PNG where it is turned or of a rarer format.

    Raises ImageError for one that cannot be read, or is not of this size any more.
    """
    decoded = read_apart(data)
    pixels = decoded.pixels
    if pixels.shape[:2] != (height, width):
        now = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise ImageError("changed", f"the image is {now} now, its mask {width} x {height}")
    if decoded.format in PLAIN_FORMATS and not decoded.turned:
        return data, PLAIN_FORMATS[decoded.format]
    return encode_png(pixels), ".png"
