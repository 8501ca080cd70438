"""Selects labelled images to annotate next: uncertain ones, each uncertain about different classes."""

# Shapes: N images, K classes.

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LIST, PAGE = "annotate_next.csv", "annotate_next.html"


def uncertainty_by_class(classes: pa.ChunkedArray[Any], num_classes: int) -> NDArray[np.float32]:
    """Each image's uncertainty, split among its predicted classes: float32 (N, K), in nats.

    A class gets its fraction of the pixels times its mean uncertainty, both from the column `classes` of `labels`; the
    sum over classes is the mean uncertainty of the image's pixels.
    """
    parts = []
    for chunk in classes.chunks:
        shares = np.zeros((len(chunk), num_classes), np.float32)
        flat = pc.list_flatten(chunk)
        rows, columns = pc.list_parent_indices(chunk).to_numpy(), flat.field("class_id").to_numpy()
        shares[rows, columns] = flat.field("fraction").to_numpy() * flat.field("mean_uncertainty").to_numpy()
        parts.append(shares)
    return np.concatenate(parts) if parts else np.zeros((0, num_classes), np.float32)


def farthest_first(vectors_NK: NDArray[np.float32], count: int) -> list[int]:
    """Indices of up to `count` vectors, each the farthest from the origin and from all chosen before it (greedy
    k-centre).

    Sener & Savarese, 2018, section 4, on vectors that are longer where there is more uncertainty, as in BADGE (Ash et
    al., 2020). Vectors near the origin have certain pixels; vectors near a chosen one are uncertain about the same
    classes.
    """
    distance_N = np.linalg.norm(vectors_NK, axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(vectors_NK))):
        index = int(distance_N.argmax())
        chosen.append(index)
        distance_N = np.minimum(distance_N, np.linalg.norm(vectors_NK - vectors_NK[index], axis=1))
        distance_N[chosen] = -1
    return chosen
