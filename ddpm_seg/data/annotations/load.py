"""Annotated images at the network's size, and which of their pixels to train on."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.options import DEFAULT_OPTIONS, AnnotationOptions
from ddpm_seg.data.annotations.pair import UNCOVERED, Pair
from ddpm_seg.data.canvas import Placement, fit
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.storage import StorageUnavailableError
from ddpm_seg.tasks import UNLABELLED, Task

logger = logging.getLogger(__name__)

# `prepare_data` of the published train_interpreter.py: at least 20 pixels of its 256 x 256.
PUBLISHED_MIN_PIXELS, PUBLISHED_SIZE = 20, 256
SHOWN_PROBLEMS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One image and its mask at the network's size S."""

    uri: str
    """Of the image."""
    image: np.ndarray
    """(S, S, 3) uint8."""
    label: np.ndarray
    """(S, S) uint8 class ids as annotated, the task's ignored one included; `UNLABELLED` in the padding."""
    placement: Placement
    """The image's box on the S x S canvas."""

    @property
    def digest(self) -> str:
        """16 hex digits over the image's pixels at the network's size."""
        return hashlib.blake2b(np.ascontiguousarray(self.image).data, digest_size=8).hexdigest()


def load_annotations(
    uri: str,
    *,
    image_size: int,
    task: Task,
    limit: int | None = None,
    options: AnnotationOptions = DEFAULT_OPTIONS,
) -> list[Annotation]:
    """Reads every annotated image of `find_pairs` (the first `limit` of them), fitted to `image_size`.

    A square image and its mask are prepared as in the published `ImageLabelDataset`; any other is letterboxed.
    Raises one `AnnotationError` for all that is wrong: an empty folder, a file without its partner, an image or mask
    that cannot be read, a mask of another shape than its image, and class ids that the task does not have.
    StorageUnavailableError where a store does not answer.
    """
    if limit is not None and limit < 1:
        raise AnnotationError(f"limit is {limit}, expected at least 1 annotated image")
    uncovered = options.uncovered_id(task)
    pairs = find_pairs(uri, task, options.image_root)[:limit]
    logger.info("reading %d annotated images from %s", len(pairs), storage.redact(uri))
    annotations, problems = [], []
    for pair in tqdm(pairs, desc="annotations", unit="image", disable=None):
        try:
            annotations.append(_load(pair, image_size, task, uncovered))
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


def labelled_pixels(labels: Sequence[np.ndarray], task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Pixels to train on: flat positions int64 (P,) in `labels`, N x (S, S) stacked, and their class ids uint8 (P,).

    Left out are the ignored class, the unlabelled pixels and, as in the published `prepare_data`, the pixels of a class
    that covers fewer than `min_class_pixels` of an image. `AnnotationError` where fewer than two classes are left.
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
            f"of the {task.num_classes} classes of {task.name}, the {len(labels)} annotated images show {found} "
            f"(a class with under {min_class_pixels(len(labels[0]))} pixels in an image is ignored there); "
            f"annotate at least two. {UNLABELLED} means no class: a mask of 0 and {UNLABELLED} has one class alone, so "
            "write its classes as 0 and 1"
        )
    return positions, kept[positions]


def min_class_pixels(size: int) -> int:
    """Pixels that a class must have in an image of `size` x `size`: the published 20 of 256 x 256, the same share of
    any other. Twenty of 64 x 64 would be most noses."""
    return math.ceil(PUBLISHED_MIN_PIXELS * (size / PUBLISHED_SIZE) ** 2)


def drop_small_classes(label: np.ndarray) -> np.ndarray:
    """A copy of `label` (S, S) uint8 with every class under `min_class_pixels` marked `UNLABELLED`."""
    counts = np.bincount(label.reshape(-1), minlength=256)
    return np.where(counts[label] < min_class_pixels(len(label)), np.uint8(UNLABELLED), label)


def resize_nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's INTER_NEAREST, as published: source index floor(target index * scale), not by pixel centres."""
    rows = _nearest_indices(label.shape[0], height)
    columns = _nearest_indices(label.shape[1], width)
    return label[rows[:, None], columns]


def _nearest_indices(source: int, target: int) -> np.ndarray:
    scale = 1.0 / (target / source)  # OpenCV's own order of divisions: source / target rounds otherwise
    return np.minimum(np.floor(np.arange(target) * scale).astype(np.int64), source - 1)


def _load(pair: Pair, image_size: int, task: Task, uncovered: int) -> Annotation:
    with _unreadable_named(storage.redact(pair.image)):
        own_image = read_apart(pair.read_image()).pixels
    name = storage.redact(pair.mask)
    with _unreadable_named(name):
        mask = pair.read_mask(*own_image.shape[:2])
    if pair.drawn:
        mask[mask == UNCOVERED] = uncovered
    _check_ids(mask, task, name)
    image, placement = fit(own_image, image_size, "letterbox")
    label = np.full((image_size, image_size), UNLABELLED, dtype=np.uint8)
    placement.crop(label)[:] = resize_nearest(mask.astype(np.uint8), placement.height, placement.width)
    return Annotation(uri=pair.image, image=image, label=label, placement=placement)


@contextmanager
def _unreadable_named(name: str) -> Iterator[None]:
    """Turns what is wrong with an image or a mask into AnnotationError; a store that does not answer is neither's."""
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


def _check_ids(mask: np.ndarray, task: Task, name: str) -> None:
    wrong = np.setdiff1d(mask, [*range(task.num_classes), UNLABELLED])
    if len(wrong):
        raise AnnotationError(
            f"{name} holds class ids that {task.name} does not have: "
            f"{', '.join(map(str, wrong[:5]))}{', ...' if len(wrong) > 5 else ''}; "
            f"expected 0..{task.num_classes - 1}, or {UNLABELLED} for pixels without a class"
        )
