"""Statistics of a mask that has its own class and confidence for each of the image's pixels."""

# Shapes: H' x W' the canvas, h x w the image's part of it, H x W the image's own size.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddpm_seg.data.canvas import Placement, nearest
from ddpm_seg.data.components import count_components
from ddpm_seg.data.masks.enlarge import OwnSizeMask, strips
from ddpm_seg.data.masks.top_classes import ONE
from ddpm_seg.data.statistics import LEFT_OUT, ClassStatistics, ImageStatistics, most_uncertain_tenth


def own_size_statistics(
    found: OwnSizeMask, uncertainty: NDArray[np.float32], placement: Placement, class_names: tuple[str, ...]
) -> ImageStatistics:
    """Statistics of one image. A class's means are over the image's own pixels; the image's uncertainty is still over
    the network's pixels.

    `uncertainty` (H', W') float is in nats; each of the image's pixels gets that of the network's pixel it lies in.
    Raises ValueError for a class without a name.
    """
    pixels, confidences, uncertainties = _sums(found, placement.crop(uncertainty))
    present = np.flatnonzero(pixels[:LEFT_OUT]).tolist()
    if nameless := [class_id for class_id in present if class_id >= len(class_names)]:
        raise ValueError(f"class {nameless[0]} has no name: there are {len(class_names)} classes")
    # Adding 1 makes class 0 an object, and 255 wraps to 0, ndimage's background.
    boxes = ndimage.find_objects(found.mask + np.uint8(1))
    components = count_components(found.mask)
    classes = []
    for class_id in present:
        rows, columns = boxes[class_id]
        x, y = columns.start, rows.start
        classes.append(
            ClassStatistics(
                class_id=class_id,
                class_name=class_names[class_id],
                pixels=int(pixels[class_id]),
                fraction=float(pixels[class_id] / found.mask.size),
                mean_confidence=float(confidences[class_id] / pixels[class_id]),
                mean_uncertainty=float(uncertainties[class_id] / pixels[class_id]),
                components=int(components[class_id]),
                bbox=(float(x), float(y), float(columns.stop - x), float(rows.stop - y)),
            )
        )
    return ImageStatistics(
        uncertainty=most_uncertain_tenth(placement.crop(uncertainty).ravel()),
        mean_confidence=float(confidences.sum() / found.mask.size),
        classes=classes,
    )


def _sums(
    found: OwnSizeMask, content: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """For each of 256 ids: the number of pixels, int64, and the sums of their confidence and uncertainty, float64."""
    height, width = found.mask.shape
    rows, columns = nearest(content.shape[0], height), nearest(content.shape[1], width)
    levels, uncertainties = np.zeros((256, ONE + 1), np.int64), np.zeros(256)
    for strip in strips(height, width):
        mask = found.mask[strip].ravel()
        pairs = mask.astype(np.intp) * (ONE + 1) + found.confidence[strip].ravel()
        levels += np.bincount(pairs, minlength=levels.size).reshape(levels.shape)
        weights = content[rows[strip]][:, columns]
        uncertainties += np.bincount(mask, weights=weights.ravel(), minlength=256)
    return levels.sum(axis=1), levels @ (np.arange(ONE + 1) / ONE), uncertainties
