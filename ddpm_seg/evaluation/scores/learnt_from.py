"""Which of the annotated images a model was trained on, and its scores on the others."""

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
"""Key in a bundle's provenance (not part of its model_id): a list of `uri` and `digest` per annotated image."""

SCORES = ("miou", "usual_miou", "pixel_accuracy")


def record(annotations: Sequence[Annotation]) -> list[dict[str, str]]:
    """The provenance entries for the images that a model was trained on."""
    return [{"uri": storage.redact(one.uri), "digest": one.digest} for one in annotations]


def seen_before(
    provenance: Mapping[str, Any], annotations: Sequence[Annotation], scored: Sequence[Scored], task: Task
) -> dict[str, Any]:
    """How many of the annotated images a bundle with this provenance was trained on (`images`), and its scores on the
    others (`without`).

    Images are recognised by their pixels at the network's size, whatever their files are called. `images` is None if
    the bundle does not record its training images, as older ones do not; `without` is None if no other image is left,
    or if none was trained on.
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
    """One sentence about `metrics.json`'s "learnt_from"; empty if all images are new to the model."""
    seen, without = found[KEY]["images"], found[KEY]["without"]
    if seen is None:
        return "The model does not say which images it was trained on; if these are among them, the scores mean little."
    if not seen:
        return ""
    share = f"The model was trained on {seen} of these {found['images']} images"
    if without is None:
        return f"{share}: the scores do not show how it does on others."
    return f"{share}; without them, mean IoU {without['miou']:.4f} by the published formula on {without['images']}."
