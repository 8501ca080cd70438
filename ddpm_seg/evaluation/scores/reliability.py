"""Checks pixel by pixel whether confidence is reliable: how often pixels of each class and confidence are right."""

# Shapes: K classes, P pixels from any number of images, L levels of confidence.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Confidence is counted in steps of 1/255, as in masks of the image's own size."""
BINS = 15
"""Bins of the expected calibration error, as in Guo et al., 2017."""
COVERAGES = tuple(percent / 100 for percent in range(10, 101, 10))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Counts that can be added over images: for each predicted class and confidence, all pixels and the right ones."""

    pixels: NDArray[np.int64]
    """int64 (K, L)."""
    right: NDArray[np.int64]
    """int64 (K, L)."""

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.pixels + other.pixels, self.right + other.right)

    def __post_init__(self) -> None:
        if self.pixels.shape != self.right.shape or self.pixels.shape[1:] != (LEVELS,):
            raise ValueError(f"expected two arrays (K, {LEVELS}), got {self.pixels.shape} and {self.right.shape}")


def count(
    confidence: NDArray[np.uint8], predicted: NDArray[np.uint8], target: NDArray[np.uint8], num_classes: int
) -> Reliability:
    """Counts pixels. `confidence` is uint8 (times 255), `predicted` and `target` are class ids, all of one shape.

    Skips pixels whose target is not a class, such as 255, and pixels without a prediction. Raises ValueError for
    different shapes or another type.
    """
    if not confidence.shape == predicted.shape == target.shape or confidence.dtype != np.uint8:
        raise ValueError(
            "expected uint8 confidence and class ids of one shape, got "
            f"{confidence.shape} {confidence.dtype}, {predicted.shape} and {target.shape}"
        )
    counted = (target < num_classes) & (target >= 0) & (predicted < num_classes)
    cells = predicted[counted].astype(np.int64) * LEVELS + confidence[counted]
    right = cells[predicted[counted] == target[counted]]
    pixels, correct = (np.bincount(one, minlength=num_classes * LEVELS).reshape(-1, LEVELS) for one in (cells, right))
    return Reliability(pixels, correct)


def expected_calibration_error(found: Reliability) -> float | None:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence, weighted by pixels (Guo et al., 2017,
    equation 3); None without pixels."""
    confidence = np.arange(LEVELS) / (LEVELS - 1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    pixels, right = found.pixels.sum(axis=0), found.right.sum(axis=0)
    gaps = np.bincount(bins, weights=pixels * confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / pixels.sum()) if pixels.any() else None


def class_reliability(found: Reliability, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """JSON-ready, for each predicted class: mean confidence and precision, which agree if the confidence is calibrated;
    None for a class that is never predicted."""
    confidence = found.pixels @ np.arange(LEVELS) / (LEVELS - 1)
    rows = []
    for class_id, name in enumerate(class_names):
        pixels, right = int(found.pixels[class_id].sum()), int(found.right[class_id].sum())
        mean = float(confidence[class_id] / pixels) if pixels else None
        precision = right / pixels if pixels else None
        rows.append(
            {"class_id": class_id, "class_name": name, "pixels": pixels, "confidence": mean, "precision": precision}
        )
    return rows


def risk_coverage(found: Reliability) -> list[dict[str, float]]:
    """JSON-ready: the error rate of only the most confident 10 %, 20 %, … of all pixels (El-Yaniv & Wiener, 2010).

    If a limit falls within one level of confidence, that level's pixels count in part.
    """
    pixels, right = found.pixels.sum(axis=0)[::-1].cumsum(), found.right.sum(axis=0)[::-1].cumsum()
    if not pixels[-1]:
        return []
    kept = np.array(COVERAGES) * pixels[-1]
    wrong = np.interp(kept, [0, *pixels], [0, *(pixels - right)])
    return [
        {"coverage": share, "error": float(error / number)}
        for share, error, number in zip(COVERAGES, wrong, kept, strict=True)
    ]
