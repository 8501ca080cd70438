"""Compares a synthetic set with real images: distances between the images, and how much of each class there is."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.image_set import load_images
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.table_pictures import row_image
from ddpm_seg.evaluation.scores.distances import frechet_distance, kernel_distance
from ddpm_seg.evaluation.scores.image_features import activation_features, torchscript_features
from ddpm_seg.fits import FitMode, fit_of
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.network import Network
from ddpm_seg.runs.view import read_view
from ddpm_seg.tasks import Task

logger = logging.getLogger(__name__)

FILE = "quality.json"
MOST_IMAGES = 10_000


def check_real(real: str, network: Network, inception: str | None) -> None:
    """Raises ValueError or OSError, before any sample is drawn, if there are no real images, or no features of them:
    also for an `inception` that is no TorchScript file."""
    if inception is None and not network.reads_images:
        raise ValueError(
            f"--real needs features of real images, but a {network.title} has features only of images that it draws; "
            "add --inception FILE, the TorchScript file of another network"
        )
    list_images(real)
    if inception is not None:
        torchscript_features(inception, "cpu")


def write_quality(
    output: str, *, config_hash: str, model: str, model_id: str | None = None, real: str, inception: str | None
) -> dict[str, Any]:
    """Writes `quality.json` beside the tables and returns its content.

    It has the Fréchet and kernel distance of the samples (the first 10,000 at most) from the images at `real`, using
    the DDPM's own features or those of the TorchScript file `inception`; and each class's share of the pixels, in the
    samples and in the real masks if `real` has any. Raises ModelChangedError if the bundle at `model` does not have the
    id `model_id`.
    """
    bundle, device = load_bundle(model, model_id), default_device()
    features = torchscript_features(inception, device) if inception else activation_features(bundle, device)
    rows = read_view(output, "samples", config_hash=config_hash, columns=["image_id", "uri", "status"]).to_pylist()
    ids = [row["image_id"] for row in rows if row["status"] == "ok"][:MOST_IMAGES]
    samples = read_view(
        output,
        "samples",
        config_hash=config_hash,
        columns=["image_id", "uri", "width", "height", "image", "classes"],
        image_ids=ids,
    )
    drawn = np.stack([row_image(row) for row in samples.select(["uri", "width", "height", "image"]).to_pylist()])
    fit = fit_of(bundle.provenance)
    images = load_images(real, bundle.network.image_size, fit, limit=MOST_IMAGES)
    drawn_features, real_features = features(drawn), features(images)
    kernel = kernel_distance(drawn_features, real_features)
    found = {
        "samples": len(drawn),
        "real_images": len(images),
        "features": storage.redact(inception) if inception else f"activations of {model}",
        "num_features": drawn_features.shape[1],
        "frechet_distance": frechet_distance(drawn_features, real_features),
        "kernel_distance": kernel.mean,
        "kernel_distance_deviation": kernel.deviation,
    }
    if bundle.task:
        classes: list[Any] = samples["classes"].to_pylist()
        found["class_shares"] = _class_shares(classes, real, bundle.task, images.shape[1], fit)
    storage.write_bytes(storage.join(output, FILE), json_file(found))
    return found


def _class_shares(
    classes: list[list[dict[str, Any]]], real: str, task: Task, image_size: int, fit: FitMode
) -> dict[str, dict[str, float | None]]:
    """By class name, the mean share of an image's pixels in the samples and in the real masks, None without real
    masks."""
    drawn = np.zeros(task.num_classes)
    for statistics in classes:
        for one in statistics:
            drawn[one["class_id"]] += one["fraction"] / len(classes)
    try:
        found = load_annotations(real, image_size=image_size, task=task, mode=fit)
    except AnnotationError as error:
        logger.info("the real images have no masks to compare class shares with: %s", error)
        return {name: {"samples": float(drawn[k]), "real": None} for k, name in enumerate(task.class_names)}
    pixels = np.concatenate([annotation.label.reshape(-1) for annotation in found])
    counts = np.bincount(pixels, minlength=256)[: task.num_classes]
    shares = counts / max(1, counts.sum())
    return {name: {"samples": float(drawn[k]), "real": float(shares[k])} for k, name in enumerate(task.class_names)}
