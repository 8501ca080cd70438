"""Statistics of a mask: area, parts, box and certainty of each class, and the image's uncertainty.

Shapes: H' x W' the canvas, h x w the content box in it, H x W the image's own size, K classes, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddpm_seg.data.canvas import Placement, nearest, restore_mask
from ddpm_seg.data.components import count_components

LEFT_OUT = 255  # a mask pixel that was left out on purpose, without a class


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassStatistics:
    """One class in one image: area and box in the image's own pixels; means over its pixels at the network's
    resolution."""

    class_id: int
    class_name: str
    pixels: int
    fraction: float
    """Fraction of all the image's own pixels, including left-out ones."""
    mean_confidence: float
    mean_uncertainty: float
    components: int
    """Number of 4-connected parts."""
    bbox: tuple[float, float, float, float]
    """x, y, width, height of the smallest box around all pixels of the class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStatistics:
    """Statistics of one image."""

    uncertainty: float
    """`most_uncertain_tenth` over the content box."""
    mean_confidence: float
    classes: list[ClassStatistics]
    """The classes in the mask, by ascending class_id."""


def image_statistics(
    label: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    confidence: NDArray[np.float32],
    mask: NDArray[np.uint8],
    placement: Placement,
    class_names: tuple[str, ...],
) -> ImageStatistics:
    """Statistics of one image; the padding around its content box never counts.

    label (H', W') uint8, uncertainty and confidence (H', W') float as the segmenter returns them; mask (H, W) uint8 is
    `restore_mask(label, placement)`, perhaps with some pixels set to 255 to leave them out. Raises ValueError if shapes
    do not agree, a class has no name, or the mask has a class that the label does not have.
    """
    _check_shapes(label, uncertainty, confidence, mask, placement)
    content, js, certainty = placement.crop(label), placement.crop(uncertainty), placement.crop(confidence)
    labelled = np.bincount(content.ravel(), minlength=256)
    uncertainty_sums = np.bincount(content.ravel(), weights=js.ravel(), minlength=256)  # float64
    confidence_sums = np.bincount(content.ravel(), weights=certainty.ravel(), minlength=256)

    cells, row_edges, column_edges = _cells(label, mask, placement)
    pixels = _areas(cells, row_edges, column_edges)
    _check_classes(labelled, pixels, class_names)
    # Adding 1 makes class 0 an object, and 255 wraps to 0, ndimage's background.
    boxes = ndimage.find_objects(cells + np.uint8(1))
    components = count_components(cells)

    classes = []
    for class_id in np.flatnonzero(pixels[:LEFT_OUT]).tolist():
        rows, columns = boxes[class_id]
        x, y = column_edges[columns.start], row_edges[rows.start]
        classes.append(
            ClassStatistics(
                class_id=class_id,
                class_name=class_names[class_id],
                pixels=int(pixels[class_id]),
                fraction=float(pixels[class_id] / mask.size),
                mean_confidence=float(confidence_sums[class_id] / labelled[class_id]),
                mean_uncertainty=float(uncertainty_sums[class_id] / labelled[class_id]),
                components=int(components[class_id]),
                bbox=(float(x), float(y), float(column_edges[columns.stop] - x), float(row_edges[rows.stop] - y)),
            )
        )
    return ImageStatistics(
        uncertainty=most_uncertain_tenth(js.ravel()),
        mean_confidence=float(certainty.mean(dtype=np.float64)),
        classes=classes,
    )


def most_uncertain_tenth(js: NDArray[np.float32]) -> float:
    """Mean of the largest int(P / 10) of P values, or of all if P < 10 (DDPM-Seg, `predict_labels`); in float64."""
    if js.ndim != 1 or js.size == 0:
        raise ValueError(f"expected a vector of at least one value, got shape {js.shape}")
    count = js.size // 10 or js.size
    return float(np.partition(js, js.size - count)[js.size - count :].mean(dtype=np.float64))


def _cells(
    label: NDArray[np.uint8], mask: NDArray[np.uint8], placement: Placement
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The mask as a grid of rectangles with one class each: their classes, and the own pixels where rows and columns
    begin.

    If the mask is just the label enlarged, the grid is the content box with wider rows and columns: it has the same
    connected parts, so 24 megapixels cost no more than the network's resolution. Otherwise each cell is one pixel.
    """
    image_height, image_width = mask.shape
    enlarged = image_height >= placement.height and image_width >= placement.width
    if enlarged and np.array_equal(mask, restore_mask(label, placement)):
        return (
            placement.crop(label),
            np.searchsorted(nearest(placement.height, image_height), np.arange(placement.height + 1)),
            np.searchsorted(nearest(placement.width, image_width), np.arange(placement.width + 1)),
        )
    return mask, np.arange(image_height + 1), np.arange(image_width + 1)


def _areas(
    cells: NDArray[np.uint8], row_edges: NDArray[np.int64], column_edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Own pixels per class, int64 (256,). Adds row by row, since a weight per cell would take eight bytes per pixel."""
    areas = np.zeros(256, dtype=np.int64)
    widths = np.diff(column_edges)
    for row, height in zip(cells, np.diff(row_edges), strict=True):
        # Sums of whole numbers far below 2^53: exact in float64.
        areas += height * np.bincount(row, weights=widths, minlength=256).astype(np.int64)
    return areas


def _check_shapes(
    label: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    confidence: NDArray[np.float32],
    mask: NDArray[np.uint8],
    placement: Placement,
) -> None:
    if not label.ndim == 2 or not label.shape == uncertainty.shape == confidence.shape:
        raise ValueError(
            "label, uncertainty and confidence must have one shape (height, width), "
            f"got {label.shape}, {uncertainty.shape} and {confidence.shape}"
        )
    if mask.shape != (placement.image_height, placement.image_width):
        raise ValueError(f"mask has shape {mask.shape}, its image {placement.image_height, placement.image_width}")
    if not label.dtype == mask.dtype == np.uint8:
        raise ValueError(f"label and mask must be uint8, got {label.dtype} and {mask.dtype}")


def _check_classes(labelled: NDArray[np.int64], pixels: NDArray[np.int64], class_names: tuple[str, ...]) -> None:
    present = np.flatnonzero(labelled + pixels)
    nameless = [class_id for class_id in present.tolist() if len(class_names) <= class_id != LEFT_OUT]
    if nameless:
        raise ValueError(f"class {nameless[0]} has no name: there are {len(class_names)} classes")
    unknown = [class_id for class_id in np.flatnonzero(pixels[:LEFT_OUT]).tolist() if not labelled[class_id]]
    if unknown:
        raise ValueError(f"the mask has class {unknown[0]}, but its label does not")
