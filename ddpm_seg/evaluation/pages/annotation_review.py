"""The page that shows which annotations are probably wrong, the worst images first."""

# Shapes: S x S pixels of an image at the network's size, K classes.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.evaluation.pages.page import template
from ddpm_seg.evaluation.pages.thumbnails import is_sharp, thumbnails
from ddpm_seg.evaluation.scores.annotation_errors import Suspect, label_quality, suspects, weakest_class
from ddpm_seg.tasks import Task

TILES, REGIONS = 48, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviewed:
    """One annotated image, and what a model says that was not trained on it."""

    annotation: Annotation
    predicted: NDArray[np.uint8]
    """(S, S) class ids."""
    quality: float
    """`label_quality` of the annotation, the softmin score: a fraction, small where it is probably wrong."""
    agreement: float
    """`weakest_class`: the same, of the class that agrees least. It finds wrong parts better and orders the page."""
    suspects: Sequence[Suspect]
    """Worst first."""


def review(annotation: Annotation, p_KSS: NDArray[np.float32], task: Task) -> Reviewed:
    """Compares an annotation with out-of-fold probabilities (K, S, S); the padding does not count."""
    crop = annotation.placement.crop
    p_Khw, label = np.stack([crop(one) for one in p_KSS]), crop(annotation.label)
    return Reviewed(
        annotation=annotation,
        predicted=p_KSS.argmax(axis=0).astype(np.uint8),
        quality=label_quality(p_Khw, label, task.ignore_label),
        agreement=weakest_class(p_Khw, label, task.ignore_label),
        suspects=suspects(p_Khw, label, task.ignore_label),
    )


def annotation_review(found: Sequence[Reviewed], task: Task) -> str:
    """HTML with the images whose annotations agree least."""
    worst = sorted(found, key=lambda one: (one.agreement, one.quality, one.annotation.uri))[:TILES]
    colours = css_colours(task.palette)
    return template("annotation_review.html").render(
        task=task.name,
        images=len(found),
        doubtful=sum(bool(one.suspects) for one in found),
        classes=[{"name": name, "colour": colour} for name, colour in zip(task.class_names, colours, strict=True)],
        tiles=[_tile(one, task) for one in worst],
    )


def _tile(one: Reviewed, task: Task) -> dict[str, Any]:
    crop, uri = one.annotation.placement.crop, storage.redact(one.annotation.uri)
    image, annotated = thumbnails(crop(one.annotation.image), crop(one.annotation.label), task.palette)
    _, predicted = thumbnails(crop(one.annotation.image), crop(one.predicted), task.palette)
    names = task.class_names
    return {
        "name": PurePosixPath(uri).name or uri,
        "uri": uri,
        "agreement": one.agreement,
        "sharp": is_sharp(crop(one.annotation.label).shape),
        "quality": one.quality,
        "pictures": [("image", image), ("annotated", annotated), ("the model's", predicted)],
        "regions": [
            f"{region.pixels} pixels annotated {names[region.annotated]}, probably {names[region.suggested]}"
            for region in one.suspects[:REGIONS]
        ],
    }
