"""One labelled image, ready to be written by an exporter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.tasks import UNLABELLED

# Formats that browsers and annotation tools show. Others, and images that are not upright, become PNGs.
PLAIN_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A row of `labels` with its image."""

    name: str
    """Name of its files without suffix: unique, and safe in any folder."""
    uri: str
    mask: NDArray[np.uint8]
    """(H, W) uint8 class ids; 255 is no class. Without a pixel if the image has no mask yet."""
    uncertainty: float
    """NaN without a mask, as `mean_confidence`."""
    mean_confidence: float
    model_id: str
    image: bytes
    """A file that any tool can show, upright and as large as the mask; empty if the format only refers to `uri`."""
    suffix: str
    """Suffix of `image`: ".jpg", ".png" or ".webp"."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What the image's container says about it: values by name."""

    @property
    def file_name(self) -> str:
        return self.name + self.suffix

    def classes(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yields (class id, bool (H, W)) for each class in the mask."""
        for class_id in np.unique(self.mask).tolist():
            if class_id != UNLABELLED:
                yield class_id, self.mask == class_id

    def write_image(self, folder: str) -> None:
        storage.write_bytes(storage.join(folder, self.file_name), self.image)


def safe_name(uri: str, image_id: str) -> str:
    """Name of an export's files without suffix, only of letters, digits, `_` and `-`.

    Anyone may have written the table that `uri` and `image_id` come from, and neither must lead out of the export's
    folder. The file's own name comes first, then part of a digest that makes it unique: `image_id` if it is a digest,
    else a digest of it.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(uri).stem)[:60].strip("_")
    is_digest = re.fullmatch(r"[0-9a-f]{32}", image_id)
    digest = image_id if is_digest else hashlib.blake2b(image_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{stem}-{digest[:12]}" if stem else digest[:12]


def showable(data: bytes, height: int, width: int) -> tuple[bytes, str]:
    """An image file that any tool can show, and its suffix: the file itself, or a PNG if it is not upright or of a
    rarer format.

    Raises ImageError if it cannot be read or no longer has this size.
    """
    decoded = read_apart(data)
    pixels = decoded.pixels
    if pixels.shape[:2] != (height, width):
        now = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise ImageError("changed", f"the image is {now} now, its mask {width} x {height}")
    if decoded.format in PLAIN_FORMATS and not decoded.turned:
        return data, PLAIN_FORMATS[decoded.format]
    return encode_png(pixels), ".png"
