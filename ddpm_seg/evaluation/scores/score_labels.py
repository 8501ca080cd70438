"""Compares a `labels` table with annotations, image by image."""

# Shapes: S x S pixels of the network, N images, K classes.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, counted_pixels
from ddpm_seg.data.canvas import Placement, nearest
from ddpm_seg.data.schema import MAPS
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.progress import track
from ddpm_seg.tasks import Task

NETWORK_MASK = MAPS[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One annotated image and its predicted mask, at the network's size without padding (h, w)."""

    uri: str
    image: NDArray[np.uint8]
    """(h, w, 3) uint8."""
    target: NDArray[np.uint8]
    """(h, w) uint8."""
    predicted: NDArray[np.uint8]
    """(h, w) uint8."""
    uncertainty: float
    """As in `labels`: mean Jensen-Shannon divergence over the most uncertain tenth of the pixels, in nats."""
    confusion: NDArray[np.int64]
    """int64 (K + 1, K + 1)."""
    pixels: int
    """Number of pixels annotated with a class that is not ignored."""
    wrong: int
    """How many of these pixels were predicted wrongly."""


def score_labels(labels: pa.Table, annotations: Sequence[Annotation], task: Task) -> list[Scored]:
    """Compares rows of `labels` (`uri`, `status`, `width`, `height`, `mask`, `uncertainty`) with the annotations of the
    same images.

    Scores at the network's size, as published: of the network's own labels where the table has them (`network_mask`),
    else of the masks, sampled in the middle of each of the network's pixels. Raises ValueError if an annotated image
    has no mask.
    """
    names = ["uri", "status", "width", "height", "mask", "uncertainty", NETWORK_MASK]
    rows = {row["uri"]: row for row in labels.select([n for n in names if n in labels.column_names]).to_pylist()}
    uris = [storage.redact(annotation.uri) for annotation in annotations]
    if missing := [uri for uri in uris if rows.get(uri, {}).get("status") != "ok"]:
        raise ValueError(
            f"{len(missing)} of {len(annotations)} annotated images have no mask in the labels: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
    return [
        _scored(annotation, _at_network_size(rows[uri], annotation.placement), rows[uri]["uncertainty"], task)
        for annotation, uri in zip(track(annotations, "scoring", unit="images"), uris, strict=True)
    ]


def _at_network_size(row: Mapping[str, Any], placement: Placement) -> NDArray[np.uint8]:
    """The network's labels (h, w) of an image. Those in the table may have been fitted in another way."""
    if row.get(NETWORK_MASK) is not None:
        found = row_mask({**row, "width": None, "height": None}, column=NETWORK_MASK)
        if found.shape == (placement.height, placement.width):
            return found
    return at_network_size(row_mask(row), placement)


def _scored(annotation: Annotation, predicted: NDArray[np.uint8], uncertainty: float, task: Task) -> Scored:
    target = annotation.placement.crop(annotation.label)
    confusion = confusion_matrix(predicted, target, task.num_classes)
    counts = counted_pixels(target, task)
    return Scored(
        uri=storage.redact(annotation.uri),
        image=annotation.placement.crop(annotation.image),
        target=target,
        predicted=predicted,
        uncertainty=uncertainty,
        confusion=confusion,
        pixels=int(counts.sum()),
        wrong=int((counts & (predicted != target)).sum()),
    )


def at_network_size(mask: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Undoes `images.restore_mask`: a mask (H, W) back to the network's label (h, w). Exact if H >= h and W >= w."""
    rows, columns = nearest(mask.shape[0], placement.height), nearest(mask.shape[1], placement.width)
    return mask[rows[:, None], columns]
