"""Annotated images in the published layout: `X.png` (or `.jpg`, ...) beside `X.npy`, an integer array of class ids."""

from __future__ import annotations

import dataclasses
import io
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.images import DEFAULT_LIMITS, EXTENSIONS, ImageError, Placement, decode, fit
from ddpm_seg.tasks import UNLABELLED, Task

logger = logging.getLogger(__name__)

# `prepare_data` of the published train_interpreter.py: at least 20 pixels of its 256 x 256.
PUBLISHED_MIN_PIXELS, PUBLISHED_SIZE = 20, 256
MAX_MASK_BYTES = 8 * DEFAULT_LIMITS.max_pixels  # int64 ids, one a pixel


class AnnotationError(ValueError):
    """An annotated folder that cannot be used; the message names the file and what to change."""


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


def load_annotations(uri: str, *, image_size: int, task: Task, limit: int | None = None) -> list[Annotation]:
    """Reads every annotated image under `uri`, sorted by name (the first `limit` of them), fitted to `image_size`.

    A square image and its mask are prepared as in the published `ImageLabelDataset`; any other is letterboxed.
    Raises `AnnotationError` for an empty folder, a file without its partner, an image or array that cannot be read,
    a mask of another shape than its image, and class ids that the task does not have.
    """
    if limit is not None and limit < 1:
        raise AnnotationError(f"limit is {limit}, expected at least 1 annotated image")
    pairs = find_pairs(uri)[:limit]
    logger.info("reading %d annotated images from %s", len(pairs), storage.redact(uri))
    return [_load(image_uri, mask_uri, image_size, task) for image_uri, mask_uri in pairs]


def find_pairs(uri: str) -> list[tuple[str, str]]:
    """(image URI, mask URI) of every annotated image under `uri`, sorted; `AnnotationError` for a missing partner."""
    masks: dict[str, str] = {}
    images: dict[str, str] = {}
    for file in storage.list_files(uri):
        stem, dot, suffix = file.uri.rpartition(".")
        if dot + suffix.lower() == ".npy":
            masks[stem] = file.uri
        elif dot + suffix.lower() in EXTENSIONS:
            if stem in images:
                raise AnnotationError(f"{_show([images[stem], file.uri])} would share one mask; remove one of them")
            images[stem] = file.uri
    if not images and not masks:
        raise AnnotationError(f"{storage.redact(uri)} holds no annotated images; expected X.png beside X.npy")
    if bare := [images[stem] for stem in sorted(images.keys() - masks.keys())]:
        raise AnnotationError(
            f"{len(bare)} of {len(images)} images have no mask: {_show(bare)}; "
            "expected X.npy beside X.png, so add the masks or move these images elsewhere"
        )
    if bare := [masks[stem] for stem in sorted(masks.keys() - images.keys())]:
        raise AnnotationError(
            f"{len(bare)} of {len(masks)} masks have no image: {_show(bare)}; "
            "expected X.png beside X.npy, so add the images or move these masks elsewhere"
        )
    return [(images[stem], masks[stem]) for stem in sorted(images)]


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
            "annotate at least two"
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


def with_mirror_images(annotations: Sequence[Annotation]) -> list[Annotation]:
    """`annotations` and then the mirror image of each, annotated alike."""
    return [*annotations, *map(_mirrored, annotations)]


def resize_nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's INTER_NEAREST, as published: source index floor(target index * scale), not by pixel centres."""
    rows = _nearest_indices(label.shape[0], height)
    columns = _nearest_indices(label.shape[1], width)
    return label[rows[:, None], columns]


def _nearest_indices(source: int, target: int) -> np.ndarray:
    scale = 1.0 / (target / source)  # OpenCV's own order of divisions: source / target rounds otherwise
    return np.minimum(np.floor(np.arange(target) * scale).astype(np.int64), source - 1)


def _load(image_uri: str, mask_uri: str, image_size: int, task: Task) -> Annotation:
    try:
        own_image = decode(storage.read_bytes(image_uri, max_bytes=DEFAULT_LIMITS.max_bytes))
    except ImageError as error:
        raise AnnotationError(f"{storage.redact(image_uri)}: {error}") from error
    mask = _read_mask(mask_uri)
    _check_shape(mask, own_image, mask_uri)
    _check_ids(mask, task, mask_uri)
    image, placement = fit(own_image, image_size, "letterbox")
    label = np.full((image_size, image_size), UNLABELLED, dtype=np.uint8)
    placement.crop(label)[:] = resize_nearest(mask.astype(np.uint8), placement.height, placement.width)
    return Annotation(uri=image_uri, image=image, label=label, placement=placement)


def _mirrored(annotation: Annotation) -> Annotation:
    placement = annotation.placement
    left = annotation.label.shape[1] - placement.left - placement.width
    return dataclasses.replace(
        annotation,
        image=annotation.image[:, ::-1],
        label=annotation.label[:, ::-1],
        placement=dataclasses.replace(placement, left=left),
    )


def _read_mask(uri: str) -> np.ndarray:
    data = storage.read_bytes(uri, max_bytes=MAX_MASK_BYTES)
    try:
        # Not np.load, which would also open archives.
        mask = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise AnnotationError(f"{storage.redact(uri)} is not a plain NumPy array file: {error}") from error
    if mask.ndim != 2 or mask.size == 0:
        raise AnnotationError(f"{storage.redact(uri)} has shape {mask.shape}, expected (height, width)")
    if mask.dtype.kind not in "bui":
        raise AnnotationError(f"{storage.redact(uri)} has dtype {mask.dtype}, expected integer class ids such as uint8")
    return mask


def _check_shape(mask: np.ndarray, image: np.ndarray, uri: str) -> None:
    """The published masks may be larger or smaller than their image, but must show the same picture."""
    (mask_height, mask_width), (height, width) = mask.shape, image.shape[:2]
    # One pixel of slack for a mask that was resized and rounded.
    if abs(mask_width * height - mask_height * width) > max(height, width):
        raise AnnotationError(
            f"{storage.redact(uri)} is {mask_width} x {mask_height} (width x height), its image {width} x {height}: "
            "the aspect ratios differ; expected a mask of the image's size"
        )


def _check_ids(mask: np.ndarray, task: Task, uri: str) -> None:
    allowed = [*range(task.num_classes), *([] if task.ignore_label is None else [task.ignore_label])]
    wrong = np.setdiff1d(mask, allowed)
    if len(wrong):
        ignored = "" if task.ignore_label is None else f" or {task.ignore_label} for ignored pixels"
        raise AnnotationError(
            f"{storage.redact(uri)} holds class ids that {task.name} does not have: "
            f"{', '.join(map(str, wrong[:5]))}{', ...' if len(wrong) > 5 else ''}; "
            f"expected 0..{task.num_classes - 1}{ignored}"
        )


def _show(uris: Iterable[str]) -> str:
    names = [storage.redact(uri) for uri in uris]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
