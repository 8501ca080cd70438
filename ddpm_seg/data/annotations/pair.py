"""An image and its mask, not read yet, and helpers that the readers of all formats use to make one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.inputs.sources import read_image
from ddpm_seg.tasks import Task

UNCOVERED = -1
"""Mask pixel that none of the drawn objects covers. It becomes "no class", or the class of
`AnnotationOptions.uncovered`."""
BACKGROUND = "background"
"""What tools call the pixels that no object covers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An image and its mask, not read yet."""

    image: str
    """URI of the image."""
    mask: str
    """The mask's name in messages."""
    read_image: Callable[[], bytes]
    """Returns the image file's bytes. Raises OSError or AnnotationError if it cannot be read."""
    read_mask: Callable[[int, int], NDArray[Any]]
    """From height and width of the upright image to class ids (H, W), integers: `UNLABELLED` for no class, `UNCOVERED`
    where no object is `drawn`. Checks the size against the image's before it draws or allocates anything
    (`check_size`). Raises MaskError or OSError if there is no usable mask."""
    drawn: bool = False
    """Whether the mask is drawn from objects, so that pixels may be `UNCOVERED`."""


def image_pair(image: str, mask: str, read_mask: Callable[[int, int], NDArray[Any]], *, drawn: bool = False) -> Pair:
    """A pair whose image has a URI: a file, or an image in a container."""
    return Pair(image=image, mask=mask, read_image=partial(_image_bytes, image), read_mask=read_mask, drawn=drawn)


def missing_pair(image: str, mask: str, problem: str) -> Pair:
    """A pair whose image was not found: reading it raises AnnotationError with the text `problem`."""

    def read_image() -> bytes:
        raise AnnotationError(problem)

    return Pair(image=image, mask=mask, read_image=read_image, read_mask=lambda height, width: np.empty((0, 0), int))


def _image_bytes(uri: str) -> bytes:
    return read_image(uri)[0]


def check_size(height: int, width: int, image_height: int, image_width: int) -> None:
    """Raises MaskError unless a mask of this size can show the whole image.

    Like the published masks, it may be larger or smaller than the image, with the same aspect ratio.
    """
    if height < 1 or width < 1 or height * width > DEFAULT_LIMITS.max_pixels:
        raise MaskError(
            f"is {width} x {height} (width x height); expected 1 to {DEFAULT_LIMITS.max_pixels} pixels, as for images"
        )
    # Allow one pixel for a mask that was resized and rounded.
    if abs(width * image_height - height * image_width) > max(image_height, image_width):
        raise MaskError(
            f"is {width} x {height} (width x height), its image {image_width} x {image_height}: "
            "the aspect ratios differ; expected a mask of the image's size"
        )


def class_id_of(label: str, ids: Mapping[str, int], task: Task) -> int:
    """The class id of an object's label. Raises MaskError if `ids`, those of `task`, do not have it."""
    if label not in ids:
        raise MaskError(f"has the label {label!r}, which {task.name} does not have: {', '.join(task.ids)}")
    return ids[label]


def refuse_twice(uri: str, pairs: Sequence[Pair]) -> None:
    """Raises AnnotationError if an image has two masks."""
    if twice := sorted(image for image, count in Counter(pair.image for pair in pairs).items() if count > 1):
        raise AnnotationError(f"{storage.redact(uri)} holds {shown(twice)} more than once; keep one mask per image")


def shown(uris: Iterable[str]) -> str:
    """The first three URIs, for a message."""
    names = [storage.redact(uri) for uri in uris]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
