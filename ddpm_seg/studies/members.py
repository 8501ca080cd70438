"""How many classifiers an ensemble needs: parts of one trained ensemble, scored on the same images."""

# Shapes: N images of S x S pixels, K classes.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.csv_text import csv_text
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.scores.miou import confusion_matrix, published_miou
from ddpm_seg.fits import fit_of
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.ensemble import Ensemble
from ddpm_seg.model.network import require_images
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.progress import track
from ddpm_seg.studies.evaluate_config import METRICS, EvaluateConfig
from ddpm_seg.studies.figures import curve_figure, drawn
from ddpm_seg.studies.results import mean_and_deviation
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

FILES = "members"


def run_members(config: EvaluateConfig) -> dict[str, Any]:
    """Writes metrics.json with the score of ensembles of each of `config.members` classifiers, and members.csv,
    members.png and members.svg.

    Each image passes through the network once. Before any work, raises ValueError (`BundleError`, `AnnotationError`) or
    OSError for what the user can correct.
    """
    header, task = read_trained_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    bundle = load_bundle(config.model, header.model_id)
    require_images(bundle.network)
    if max(config.members) > len(bundle.members):
        raise ValueError(f"--members {max(config.members)} is too many: {config.model} has {len(bundle.members)}")
    annotations = load_annotations(
        config.images,
        image_size=bundle.network.image_size,
        task=task,
        limit=config.limit,
        options=config,
        mode=fit_of(header.provenance, config.fit),
    )
    storage.check_writable(config.output)
    workplace = Workplace.at(config.output, config.model, header.model_id, config.num_actors)
    assert bundle.features is not None  # it has an ensemble
    with work_began():
        maps = extract_features(bundle, annotations, bundle.features, default_device(), workplace)
        points = _points(bundle, task, maps, annotations, sorted(config.members))
        result = {"members": points, "model_id": header.model_id, "task": task.name, "images": len(annotations)}
        storage.write_bytes(storage.join(config.output, METRICS), json_file(result))
        draw = lambda: curve_figure({"": points}, "members", "classifiers in the ensemble")  # noqa: E731
        for suffix, content in {"csv": _csv(points), **drawn(draw)}.items():
            storage.write_bytes(storage.join(config.output, f"{FILES}.{suffix}"), content)
        storage.delete(workplace.folder)
    return result


def parts(members: int, size: int) -> list[range]:
    """The ensembles of `size` classifiers out of `members`, none of which is in two of them."""
    return [range(first, first + size) for first in range(0, members - size + 1, size)]


def _points(
    bundle: Bundle, task: Task, maps: PixelFeatures, annotations: Sequence[Annotation], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """For each size, mean and deviation over its ensembles."""
    chosen = [(size, part) for size in sizes for part in parts(len(bundle.members), size)]
    ensembles = [_ensemble(bundle, part, maps) for _, part in chosen]
    totals = np.zeros((len(chosen), task.num_classes + 1, task.num_classes + 1), np.int64)
    for index, annotation in enumerate(track(annotations, "scoring", unit="images")):
        for total, ensemble in zip(totals, ensembles, strict=True):
            total += _confusion(ensemble, maps, index, annotation, task)
    scores = [published_miou(total, task.ignore_label) for total in totals]
    points = []
    for size in sizes:
        own = [score for (other, _), score in zip(chosen, scores, strict=True) if other == size]
        score = mean_and_deviation(own)
        points.append({"members": size, "ensembles": len(own), "miou": score["mean"], "deviation": score["deviation"]})
    return points


def _ensemble(bundle: Bundle, part: range, maps: PixelFeatures) -> Ensemble:
    assert bundle.features is not None
    return Ensemble(
        [bundle.members[number] for number in part],
        channels=bundle.features.channels(bundle.network),
        sides=bundle.features.sides(bundle.network),
        upsample_mode=bundle.features.upsample_mode,
        device=maps.device,
    )


def _confusion(
    ensemble: Ensemble, maps: PixelFeatures, index: int, annotation: Annotation, task: Task
) -> NDArray[np.int64]:
    image = [stored[index : index + 1].permute(0, 3, 1, 2) for stored in maps.maps]
    (votes,) = ensemble(image, (maps.image_size, maps.image_size))
    crop = annotation.placement.crop
    return confusion_matrix(crop(votes.label.cpu().numpy()), crop(annotation.label), task.num_classes)


def _csv(points: Sequence[dict[str, Any]]) -> bytes:
    return csv_text(list(points[0]), (point.values() for point in points)).encode()
