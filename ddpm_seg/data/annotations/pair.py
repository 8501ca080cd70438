"""An image and its mask, not read yet, and how the readers of all forms make one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS

UNCOVERED = -1
"""Pixel value of a mask that is drawn from objects where there is no object. It becomes "no class", or the class of
`AnnotationOptions.uncovered`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An image and its mask, not read yet."""

    image: str
    """URI of the image."""
    mask: str
    """What messages call the mask."""
    read_image: Callable[[], bytes]
    """The image file's bytes; OSError or AnnotationError where it cannot be read."""
    read_mask: Callable[[int, int], np.ndarray]
    """Height and width of the upright image in, class ids (H, W) out: integers, `UNLABELLED` for no class and
    `UNCOVERED` where no object is `drawn`. The size is checked against the image's before anything is drawn or
    allocated (`check_size`). `MaskError` or OSError where there is no usable mask."""
    drawn: bool = False
    """Whether the mask is drawn from objects, so that pixels may be uncovered."""


def image_pair(image: str, mask: str, read_mask: Callable[[int, int], np.ndarray], *, drawn: bool = False) -> Pair:
    """A pair whose image is a file of its own."""
    return Pair(image=image, mask=mask, read_image=partial(read_image_file, image), read_mask=read_mask, drawn=drawn)


def missing_pair(image: str, mask: str, problem: str) -> Pair:
    """A pair whose image is nowhere: reading it raises an AnnotationError that says `problem`."""

    def read_image() -> bytes:
        raise AnnotationError(problem)

    return Pair(image=image, mask=mask, read_image=read_image, read_mask=lambda height, width: np.empty((0, 0), int))


def read_image_file(uri: str) -> bytes:
    """Bytes of an image file within the limits."""
    return storage.read_listed(uri, max_bytes=DEFAULT_LIMITS.max_bytes)[0]


def check_size(height: int, width: int, image_height: int, image_width: int) -> None:
    """Raises MaskError unless a mask of this size shows the whole of its image.

    As the published masks, it may be larger or smaller than the image, at the same aspect ratio.
    """
    if height < 1 or width < 1 or height * width > DEFAULT_LIMITS.max_pixels:
        raise MaskError(
            f"is {width} x {height} (width x height); expected 1 to {DEFAULT_LIMITS.max_pixels} pixels, as its image"
        )
    # One pixel of slack for a mask that was resized and rounded.
    if abs(width * image_height - height * image_width) > max(image_height, image_width):
        raise MaskError(
            f"is {width} x {height} (width x height), its image {image_width} x {image_height}: "
            "the aspect ratios differ; expected a mask of the image's size"
        )


def refuse_twice(uri: str, pairs: Sequence[Pair]) -> None:
    """Raises AnnotationError where two masks are of one image."""
    if twice := sorted(image for image, count in Counter(pair.image for pair in pairs).items() if count > 1):
        raise AnnotationError(f"{storage.redact(uri)} holds {shown(twice)} more than once; keep one mask per image")


def shown(uris: Iterable[str]) -> str:
    """The first three, for a message."""
    names = [storage.redact(uri) for uri in uris]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
