"""Loads annotated images at the network's size, and selects the pixels to train on."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.options import DEFAULT_OPTIONS, AnnotationOptions
from ddpm_seg.data.annotations.pair import UNCOVERED, Pair
from ddpm_seg.data.canvas import Placement, fit
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.data.table_pictures import encode_png, read_mask
from ddpm_seg.fits import FitMode
from ddpm_seg.progress import track
from ddpm_seg.storage import StorageUnavailableError
from ddpm_seg.tasks import UNLABELLED, Task

logger = logging.getLogger(__name__)

# `prepare_data` of the published train_interpreter.py: at least 20 pixels of its 256 x 256.
PUBLISHED_MIN_PIXELS, PUBLISHED_SIZE = 20, 256
SHOWN_PROBLEMS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnSize:
    """An annotation at its image's own size, in few bytes: many are held at once."""

    mask: bytes
    """A PNG of class ids."""
    read_image: Callable[[], bytes]
    """Reads the image's file once more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One image and its mask at the network's size S."""

    uri: str
    """URI of the image."""
    image: NDArray[np.uint8]
    """(S, S, 3) uint8."""
    label: NDArray[np.uint8]
    """(S, S) uint8 class ids as annotated, including the task's ignored one; `UNLABELLED` in the padding."""
    placement: Placement
    """Where the image lies on the S x S canvas."""
    own: OwnSize | None = None
    """The annotation at the image's own size, where it was asked for."""
    origin: str = ""
    """What messages call it: the file of the mask, or a row of a table."""

    def own_label(self) -> NDArray[np.uint8]:
        """(H, W) uint8 class ids at the image's own size. Raises ValueError where it was not loaded."""
        if self.own is None:
            raise ValueError(f"{storage.redact(self.uri)} was loaded without its mask at the image's own size")
        return read_mask(self.own.mask, self.placement.image_width, self.placement.image_height)

    @property
    def digest(self) -> str:
        """Hash of the image's pixels at the network's size, 16 hex digits."""
        return hashlib.blake2b(np.ascontiguousarray(self.image).data, digest_size=8).hexdigest()


def load_annotations(
    uri: str,
    *,
    image_size: int,
    task: Task,
    limit: int | None = None,
    options: AnnotationOptions = DEFAULT_OPTIONS,
    mode: FitMode = "letterbox",
    own_size: bool = False,
) -> list[Annotation]:
    """Reads all annotated images that `find_pairs` finds (only the first `limit`, if given), fitted to `image_size`.

    A square image and its mask are prepared as in the published `ImageLabelDataset`; `mode` fits any other. `own_size`
    keeps the masks at their images' own size as well. Raises one AnnotationError that lists everything wrong: an empty
    folder, files without a partner, images or masks that cannot be read, masks of another shape than their image, class
    ids that the task does not have. Raises StorageUnavailableError if a store does not answer.
    """
    if limit is not None and limit < 1:
        raise AnnotationError(f"limit is {limit}, expected at least 1 annotated image")
    pairs = find_pairs(uri, task, options.image_root)[:limit]
    logger.info("reading %d annotated images from %s", len(pairs), storage.redact(uri))
    return load_pairs(pairs, image_size=image_size, task=task, options=options, mode=mode, own_size=own_size)


def load_pairs(
    pairs: Sequence[Pair],
    *,
    image_size: int,
    task: Task,
    options: AnnotationOptions = DEFAULT_OPTIONS,
    mode: FitMode = "letterbox",
    own_size: bool = False,
) -> list[Annotation]:
    """`load_annotations` for pairs that have been found."""
    uncovered = options.uncovered_id(task)
    annotations, problems = [], []
    for pair in track(pairs, "annotations", unit="images"):
        try:
            annotations.append(_load(pair, image_size, task, uncovered, mode, own_size))
        except AnnotationError as error:
            problems.append(str(error))
    if len(problems) == 1:
        raise AnnotationError(problems[0])
    if problems:
        shown = [f"  {problem}" for problem in problems[:SHOWN_PROBLEMS]]
        more = [f"  and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        heading = f"{len(problems)} of {len(pairs)} annotated images cannot be used:"
        raise AnnotationError("\n".join([heading, *shown, *more]))
    return annotations


def labelled_pixels(labels: Sequence[NDArray[np.uint8]], task: Task) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Pixels to train on: flat positions int64 (P,) in the stacked `labels`, N x (S, S), and their class ids uint8
    (P,).

    Leaves out the ignored class, unlabelled pixels and, as the published `prepare_data`, the pixels of a class that has
    fewer than `min_class_pixels` in an image. Raises AnnotationError if fewer than two classes are left.
    """
    kept = np.stack([drop_small_classes(label) for label in labels]).reshape(-1)
    usable = kept != UNLABELLED
    if task.ignore_label is not None:
        usable &= kept != task.ignore_label
    positions = np.flatnonzero(usable)
    classes = np.unique(kept[positions])
    if len(classes) < 2:
        found = f"only {task.class_names[classes[0]]!r}" if len(classes) else "none"
        raise AnnotationError(
            f"of the {task.num_classes} classes of {task.name}, the {len(labels)} annotated images have {found} "
            f"(a class with under {min_class_pixels(len(labels[0]))} pixels in an image is ignored there); "
            f"annotate at least two. {UNLABELLED} means no class: a mask of 0 and {UNLABELLED} has only one class, so "
            "write 0 and 1 instead, or say in the task file what they are, such as merge: "
            f"{{0: background, {UNLABELLED}: object}}"
        )
    return positions, kept[positions]


def counted_pixels(label: NDArray[np.uint8], task: Task) -> NDArray[np.bool_]:
    """Which pixels of a mask uint8, of any shape, have a class that is not ignored: bool of that shape."""
    there = label < task.num_classes
    return there if task.ignore_label is None else there & (label != task.ignore_label)


def with_pixels(annotations: Sequence[Annotation], task: Task) -> list[Annotation]:
    """Those that can be scored on: with at least one of the `counted_pixels`."""
    return [one for one in annotations if counted_pixels(one.label, task).any()]


def min_class_pixels(size: int) -> int:
    """Pixels that a class must have in an image of `size` x `size` to be trained on: the published 20 of 256 x 256, and
    the same share at other sizes. At 64 x 64, twenty pixels would rule out most noses."""
    return math.ceil(PUBLISHED_MIN_PIXELS * (size / PUBLISHED_SIZE) ** 2)


def drop_small_classes(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of `label` (S, S) uint8 in which classes with fewer than `min_class_pixels` pixels are `UNLABELLED`."""
    counts = np.bincount(label.reshape(-1), minlength=256)
    return np.where(counts[label] < min_class_pixels(len(label)), np.uint8(UNLABELLED), label)


def resize_nearest(label: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """OpenCV's INTER_NEAREST, as published: source index floor(target index * scale), not by pixel centres."""
    rows = _nearest_indices(label.shape[0], height)
    columns = _nearest_indices(label.shape[1], width)
    return label[rows[:, None], columns]


def _nearest_indices(source: int, target: int) -> NDArray[np.int64]:
    scale = 1.0 / (target / source)  # OpenCV divides in this order; source / target rounds differently
    return np.minimum(np.floor(np.arange(target) * scale).astype(np.int64), source - 1)


def _load(pair: Pair, image_size: int, task: Task, uncovered: int, mode: FitMode, own_size: bool) -> Annotation:
    with _unreadable_named(storage.redact(pair.image)):
        own_image = read_apart(pair.read_image()).pixels
    name = storage.redact(pair.mask)
    with _unreadable_named(name):
        mask = pair.read_mask(*own_image.shape[:2])
    if pair.drawn:
        mask[mask == UNCOVERED] = uncovered
    _check_ids(mask, task, name)
    mask = mask.astype(np.uint8)
    image, placement = fit(own_image, image_size, mode)
    label = np.full((image_size, image_size), UNLABELLED, dtype=np.uint8)
    placement.crop(label)[:] = resize_nearest(mask, placement.height, placement.width)
    own = None
    if own_size:
        own_mask = resize_nearest(mask, *own_image.shape[:2])
        own = OwnSize(mask=encode_png(own_mask), read_image=pair.read_image)
    return Annotation(uri=pair.image, image=image, label=label, placement=placement, own=own, origin=name)


@contextmanager
def _unreadable_named(name: str) -> Iterator[None]:
    """Turns errors of an image or a mask into AnnotationErrors with its name; StorageUnavailableError passes
    through."""
    try:
        yield
    except ImageError as error:
        raise AnnotationError(f"{name}: {error}") from error
    except MaskError as error:
        raise AnnotationError(f"{name} {error}") from error
    except StorageUnavailableError:
        raise
    except OSError as error:
        raise AnnotationError(f"{name} cannot be read: {error.strerror or error}") from error


def _check_ids(mask: NDArray[Any], task: Task, name: str) -> None:
    wrong = np.setdiff1d(mask, [*range(task.num_classes), UNLABELLED])
    if len(wrong):
        raise AnnotationError(
            f"{name} holds class ids that {task.name} does not have: "
            f"{', '.join(map(str, wrong[:5]))}{', ...' if len(wrong) > 5 else ''}; "
            f"expected 0..{task.num_classes - 1}, or {UNLABELLED} for pixels without a class"
        )
