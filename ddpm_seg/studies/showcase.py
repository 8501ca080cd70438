"""Draws the README's pictures of a model: labelled images, samples, and the samples' nearest training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.image_set import load_images
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.pages.sheets import label_sheet, neighbour_sheet, sample_sheet
from ddpm_seg.evaluation.scores.nearest import nearest_neighbours
from ddpm_seg.fits import fit_of
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.network import require_images
from ddpm_seg.model.resident import resident_drawer
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.studies.showcase_config import ShowcaseConfig

COLUMNS, SAMPLES, NEIGHBOURS = 8, 25, 3


def showcase(config: ShowcaseConfig) -> str:
    """Writes labels.png, samples.png, neighbours.png and distances.json; returns the distances as text.

    Raises ValueError or OSError for what the user can correct.
    """
    bundle = load_bundle(config.model)
    size = bundle.network.image_size
    if bundle.task is None:
        raise BundleError(
            f"{config.model} holds a {bundle.network.title} without an ensemble; train one with `ddpm-seg train`"
        )
    require_images(bundle.network)
    storage.check_writable(config.output)
    fit = fit_of(bundle.provenance)
    shown = load_annotations(config.images, image_size=size, task=bundle.task, limit=COLUMNS, mode=fit)
    unseen, training = load_images(config.images, size, fit), load_images(config.training_images, size, fit)
    samples = draw(bundle, config.seed)
    near = nearest_neighbours(samples, training, NEIGHBOURS)
    distances = {
        "samples": _spread(near.distance[:, 0]),
        "unseen images": _spread(nearest_neighbours(unseen, training, 1).distance[:, 0]),
    }
    sheets = {
        "labels.png": label_sheet(bundle, shown),
        "samples.png": sample_sheet(samples, columns=5),
        "neighbours.png": neighbour_sheet(samples[:COLUMNS], training[near.index[:COLUMNS]]),
    }
    for name, sheet in sheets.items():
        storage.write_bytes(storage.join(config.output, name), encode_png(np.asarray(sheet)))
    storage.write_bytes(storage.join(config.output, "distances.json"), json_file(distances))
    return "\n".join(
        f"{values['count']:.0f} {name}: root mean square difference to the nearest of {len(training)} training images "
        f"{values['least']:.1f} to {values['most']:.1f}, median {values['median']:.1f} (of 255)"
        for name, values in distances.items()
    )


def draw(bundle: Bundle, seed: int) -> NDArray[np.uint8]:
    """The first samples of `seed`, (SAMPLES, S, S, 3) uint8, the same that jobs.generate draws by default.

    Raises ValueError if the network's output is not finite.
    """
    drawer = resident_drawer(bundle, SamplingConfig(), default_device())
    images = [image for image, _ in drawer.draw(seed, range(SAMPLES)) if image is not None]
    if len(images) < SAMPLES:
        raise ValueError("this model's samples contain values that are not finite; its training may have diverged")
    return np.stack(images)


def _spread(values: NDArray[np.float32]) -> dict[str, float]:
    return {
        "count": len(values),
        "least": round(float(values.min()), 2),
        "median": round(float(np.median(values)), 2),
        "most": round(float(values.max()), 2),
    }
