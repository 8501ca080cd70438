"""Which labelled images are most worth annotating next: those in doubt, and each in doubt about something else."""

# Shapes: N images, K classes.

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LIST, PAGE = "annotate_next.csv", "annotate_next.html"


def uncertainty_by_class(classes: pa.ChunkedArray, num_classes: int) -> np.ndarray:
    """Each image's uncertainty, shared out among the classes that its pixels were given: float32 (N, K), in nats.

    A class's share is its fraction of the pixels times its mean uncertainty, as the column `classes` of `labels` has
    them; their sum is the mean uncertainty of the image's pixels.
    """
    parts = []
    for chunk in classes.chunks:
        shares = np.zeros((len(chunk), num_classes), np.float32)
        flat = chunk.flatten()
        rows, columns = pc.list_parent_indices(chunk).to_numpy(), flat.field("class_id").to_numpy()
        shares[rows, columns] = flat.field("fraction").to_numpy() * flat.field("mean_uncertainty").to_numpy()
        parts.append(shares)
    return np.concatenate(parts) if parts else np.zeros((0, num_classes), np.float32)


def farthest_first(vectors_NK: np.ndarray, count: int) -> list[int]:
    """Indices of up to `count` vectors: each the farthest from all before it and from the origin (greedy k-centre).

    Sener & Savarese, 2018, section 4, on vectors that are long where there is doubt, as in BADGE (Ash et al., 2020):
    near the origin the members agree, and near a chosen image they disagree about the same.
    """
    distance_N = np.linalg.norm(vectors_NK, axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(vectors_NK))):
        index = int(distance_N.argmax())
        chosen.append(index)
        distance_N = np.minimum(distance_N, np.linalg.norm(vectors_NK - vectors_NK[index], axis=1))
        distance_N[chosen] = -1
    return chosen
