"""Annotated images as jobs.label will show them to a bundle: in the views that tuning chose for it (`--average`).

What is measured on annotated images, such as temperatures, must be measured of the answers that labelling will give.
"""

# Shapes: S x S pixels, the network's side; canvases are F times finer (`views.finer`).

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.fits import Average, fit_of
from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.views import finer


def tuned_average(bundle: Bundle) -> Average:
    """How jobs.label averages with `bundle` unless told otherwise."""
    return (bundle.features and bundle.features.average) or "none"


def labelling(segmenter: Segmenter, bundle: Bundle) -> Segmenter | Averaged:
    """`segmenter`, which holds `bundle`, as jobs.label uses it."""
    average = tuned_average(bundle)
    return segmenter if average == "none" else Averaged(segmenter, average)


def as_seen(annotations: Sequence[Annotation], bundle: Bundle) -> Sequence[Annotation]:
    """`annotations` with images (F S, F S, 3), which `labelling` takes; their masks stay (S, S).

    Where F is not 1, reads the images again: they must have been loaded with their masks at their own size.
    """
    times = finer(tuned_average(bundle))
    if times == 1:
        return annotations
    size, mode, found = bundle.network.image_size, fit_of(bundle.provenance), []
    for one in annotations:
        assert one.own is not None
        canvas, _ = fit(read_apart(one.own.read_image()).pixels, size, mode, times)
        found.append(dataclasses.replace(one, image=canvas))
    return found
