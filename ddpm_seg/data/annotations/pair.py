"""An image and its mask, not read yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.images import DEFAULT_LIMITS


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message names the file and what to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An image and its mask, not read yet."""

    image: str
    """URI of the image."""
    mask: str
    """What messages call the mask."""
    read_image: Callable[[], bytes]
    """The image file's bytes; OSError where it cannot be read."""
    read_mask: Callable[[], np.ndarray]
    """Class ids (H, W), integers; `MaskError` or OSError where there are none."""


def image_pair(image: str, mask: str, read_mask: Callable[[], np.ndarray]) -> Pair:
    """A pair whose image is a file of its own."""
    return Pair(image=image, mask=mask, read_image=partial(read_image_file, image), read_mask=read_mask)


def read_image_file(uri: str) -> bytes:
    """Bytes of an image file within the limits."""
    return storage.read_bytes(uri, max_bytes=DEFAULT_LIMITS.max_bytes)


def shown(uris: Iterable[str]) -> str:
    names = [storage.redact(uri) for uri in uris]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
