"""Which of the annotated images a model has learnt from, and what it scores without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.evaluation.scores.metrics import metrics
from ddpm_seg.evaluation.scores.score_labels import Scored
from ddpm_seg.tasks import Task

KEY = "learnt_from"
"""Of a bundle's provenance, which is no part of its model_id: a list of `uri` and `digest`, one per annotated image."""

SCORES = ("miou", "usual_miou", "pixel_accuracy")


def record(annotations: Sequence[Annotation]) -> list[dict[str, str]]:
    """What a bundle's provenance says of the images that it learnt from."""
    return [{"uri": storage.redact(one.uri), "digest": one.digest} for one in annotations]


def seen_before(
    provenance: Mapping[str, Any], annotations: Sequence[Annotation], scored: Sequence[Scored], task: Task
) -> dict[str, Any]:
    """Of a bundle with this provenance: `images`, how many of the annotated ones it learnt from, and the scores
    `without` them.

    Images are told by their pixels at the network's size, whatever their files are called. `images` is None where the
    bundle does not say what it learnt from, as those made before it was recorded; `without` is None where no other
    image is left, or all are others.
    """
    entries = provenance.get(KEY)
    if entries is None:
        return {"images": None, "without": None}
    digests = {entry["digest"] for entry in entries}
    others = [one for one, annotation in zip(scored, annotations, strict=True) if annotation.digest not in digests]
    without = None
    if others and len(others) < len(scored):
        found = metrics(np.sum([one.confusion for one in others], axis=0), task)
        without = {"images": len(others), **{name: found[name] for name in SCORES}}
    return {"images": len(scored) - len(others), "without": without}


def describe(found: Mapping[str, Any]) -> str:
    """One sentence on `metrics.json`'s "learnt_from"; empty where all images are new to the model."""
    seen, without = found[KEY]["images"], found[KEY]["without"]
    if seen is None:
        return "The model does not say which images it learnt from; if these are among them, the scores say little."
    if not seen:
        return ""
    share = f"The model learnt from {seen} of these {found['images']} images"
    if without is None:
        return f"{share}: the scores do not say how it does on others."
    return f"{share}; without them, mean IoU {without['miou']:.4f} by the published formula on {without['images']}."
