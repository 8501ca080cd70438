"""How far two annotators agree: masks of the same images against each other, as a model's are against one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.scores import own_size
from ddpm_seg.evaluation.scores.metrics import metrics
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.fits import fit_of
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.studies.evaluate_config import METRICS, EvaluateConfig


def run_agreement(config: EvaluateConfig) -> dict[str, Any]:
    """Writes metrics.json of the masks `config.labels_of` against those of `config.images`, at their own size, and
    returns its content. The model gives the task; it labels nothing.

    Raises ValueError (BundleError, AnnotationError) or OSError for what cannot be read, and for images that only one of
    the two has.
    """
    assert config.labels_of is not None
    header, task = read_trained_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    fit = fit_of(header.provenance, config.fit)
    first, second = (
        load_annotations(
            uri, image_size=header.image_size, task=task, limit=limit, options=config, mode=fit, own_size=True
        )
        for uri, limit in ((config.images, config.limit), (config.labels_of, None))
    )
    pairs = [(one.own_label(), other.own_label()) for one, other in _matched(first, second)]
    storage.check_writable(config.output)
    confusion = np.sum([confusion_matrix(theirs, mine, task.num_classes) for mine, theirs in pairs], axis=0)
    found = metrics(confusion, task)
    about = {
        "task": task.name,
        "annotations": storage.redact(config.images),
        "labels_of": storage.redact(config.labels_of),
        "images": len(pairs),
    }
    counts = (own_size.count(theirs, None, mine, task) for mine, theirs in pairs)
    found = {"miou": found.pop("miou"), **about, **found, "own_size": own_size.summary(counts, task)}
    with work_began():
        storage.write_bytes(storage.join(config.output, METRICS), json_file(found))
    return found


def _matched(first: Sequence[Annotation], second: Sequence[Annotation]) -> list[tuple[Annotation, Annotation]]:
    """Both annotations of each image of `first`, found by the image's pixels: files may have other names."""
    by_digest = {one.digest: one for one in second}
    if missing := [storage.redact(one.uri) for one in first if one.digest not in by_digest]:
        raise ValueError(
            f"{len(missing)} of {len(first)} images of --images are not among those of --labels-of: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; compare annotations of the same images"
        )
    return [(one, by_digest[one.digest]) for one in first]
