"""The final labels of one image, at its own size: the mask and its statistics."""

# Shapes: H' x W' is the canvas, H x W the image's own size.

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.canvas import Placement, restore_mask
from ddpm_seg.data.fit_options import Refine, Resize
from ddpm_seg.data.masks.enlarge import OwnSizeMask, enlarge, strips
from ddpm_seg.data.masks.refine import refined
from ddpm_seg.data.masks.statistics import own_size_statistics
from ddpm_seg.data.masks.top_classes import ONE, TopClasses
from ddpm_seg.data.statistics import LEFT_OUT, ImageStatistics, image_statistics


class NetworkAnswer(Protocol):
    """A network's labels for an image on its canvas; `model.pixel_labels.PixelLabels` is one."""

    @property
    def label(self) -> NDArray[np.uint8]: ...  # (H', W') uint8
    @property
    def uncertainty(self) -> NDArray[np.float32]: ...  # (H', W') float32, nats
    @property
    def confidence(self) -> NDArray[np.float32]: ...  # (H', W') float32 in [0, 1]
    @property
    def top_ids(self) -> NDArray[np.uint8] | None: ...  # (T, H', W') uint8, or on a grid some times as fine
    @property
    def top_probabilities(self) -> NDArray[np.uint8] | None: ...  # like top_ids
    @property
    def finite(self) -> bool: ...


LARGE = 2**24
"""Pixels of a canvas."""


class NotFiniteError(ValueError):
    """The network's output overflowed, so its labels mean nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLabels:
    """The labels of one image."""

    mask: NDArray[np.uint8]
    """(H, W) uint8 class ids."""
    confidence: NDArray[np.uint8]
    """(H, W) uint8: probability of each pixel's class, times 255."""
    statistics: ImageStatistics


def image_labels(
    answer: NetworkAnswer,
    placement: Placement,
    class_names: tuple[str, ...],
    resize: Resize = "nearest",
    refine: Refine = "none",
    image: NDArray[np.uint8] | None = None,
    least_confidence: int = 0,
) -> ImageLabels:
    """The mask at the image's own size, and its statistics; `refine` needs the `image` (H, W, 3) uint8 itself.

    If the image is as large as the network sees it, the mask is the network's labels, whatever `resize` and `refine`
    say; in any case it has no class that they lack. Pixels below `least_confidence`, in 255ths, become 255. Raises
    NotFiniteError, to which the caller adds advice, and ValueError for "bilinear" without top classes.
    """
    if not answer.finite:
        raise NotFiniteError("the network's output is not finite")
    found = own_size_mask(answer, placement, resize, refine, image)
    if least_confidence > 0:
        kept = np.where(found.confidence >= least_confidence, found.mask, np.uint8(LEFT_OUT))
        found = replace(found, mask=kept)
    # Summed strip by strip for a canvas of many tiles, which would take gigabytes at once.
    if (resize == "bilinear" and placement.resized) or answer.label.size > LARGE:
        statistics = own_size_statistics(found, answer.uncertainty, placement, class_names)
    else:
        values = answer.label, answer.uncertainty, answer.confidence
        statistics = image_statistics(*values, found.mask, placement, class_names)
    return ImageLabels(mask=found.mask, confidence=found.confidence, statistics=statistics)


def own_size_mask(
    answer: NetworkAnswer,
    placement: Placement,
    resize: Resize,
    refine: Refine = "none",
    image: NDArray[np.uint8] | None = None,
) -> OwnSizeMask:
    """The mask of `image_labels`, and the confidence of each of its pixels."""
    if resize == "bilinear" and placement.resized:
        top = _top_classes(answer, placement)
        finer = top.ids.shape[-1] // answer.label.shape[-1]
        if refine == "none":
            return enlarge(top, placement.finer(finer))
        return refined(top.coarser(finer), placement, refine, image)  # its kernels are made for the network's pixels
    confidence = np.empty(answer.label.shape, np.uint8)
    for strip in strips(*confidence.shape):
        confidence[strip] = np.rint(answer.confidence[strip] * ONE)
    return OwnSizeMask(mask=restore_mask(answer.label, placement), confidence=restore_mask(confidence, placement))


def _top_classes(answer: NetworkAnswer, placement: Placement) -> TopClasses:
    """Top classes without those that are no pixel's label. Otherwise, a class that is second at two neighbouring pixels
    could win between them, and members may vote for another class than their mean."""
    if answer.top_ids is None or answer.top_probabilities is None:
        raise ValueError("a bilinear mask needs the top classes of each pixel, which this answer does not have")
    named = np.zeros(256, np.uint8)
    named[placement.crop(answer.label)] = 1
    return TopClasses(ids=answer.top_ids, probabilities=answer.top_probabilities * named[answer.top_ids])
