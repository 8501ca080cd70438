"""How well clusters of activations match annotations, if each cluster is named after its commonest class.

    python -m tests.measurements.clusters --images pool

Prints the mean IoU (published formula) and the share of right pixels, for the network's activations, and for colours
and coordinates.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.evaluation.scores.miou import confusion_matrix, published_miou
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.studies.explore.cluster import cluster_pixels
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.extraction import extract_features
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.rivals.rgb_features import rgb_and_coordinates

CHOICES = {
    "--steps 60 --blocks 0 1 2 3": ((60,), (0, 1, 2, 3)),
    "--steps 60 --blocks 3": ((60,), (3,)),
    "--steps 60 --blocks 4 5 6 7": ((60,), (4, 5, 6, 7)),
    "the bundle's own (5 60 250, all blocks)": ((5, 60, 250), tuple(range(8))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--clusters", type=int, nargs="+", default=[12, 24])
    options = parser.parse_args()
    bundle = load_bundle("avatars-10")
    assert bundle.task is not None
    pool = load_annotations(options.images, image_size=bundle.network.image_size, task=bundle.task, limit=options.limit)
    images, truth = np.stack([one.image for one in pool]), np.stack([one.label for one in pool])
    for name, (steps, blocks) in CHOICES.items():
        for clusters in options.clusters:
            maps = extract_features(bundle, pool, FeatureConfig(steps=steps, blocks=blocks), "cpu")
            _report(name, cluster_pixels(maps, np.ones(truth.shape, bool), clusters, 0), truth, clusters, bundle.task)
    for clusters in options.clusters:
        size = bundle.network.image_size
        plain = PixelFeatures(num_images=len(pool), image_size=size, mode="nearest", dtype=torch.float32)
        plain.store(0, [rgb_and_coordinates(images, "cpu")])
        found = cluster_pixels(plain, np.ones(truth.shape, bool), clusters, 0)
        _report("colours and coordinates", found, truth, clusters, bundle.task)


def _report(name: str, found: NDArray[np.uint8], truth: NDArray[np.uint8], clusters: int, task: Task) -> None:
    known = [truth[(found == number) & (truth < task.num_classes)] for number in range(clusters)]
    named = np.array([np.bincount(own, minlength=task.num_classes).argmax() for own in known], np.uint8)[found]
    miou = published_miou(confusion_matrix(named, truth, task.num_classes), task.ignore_label)
    print(f"{name:<42} {clusters:>3} clusters: mean IoU {miou:.3f}, {(named == truth).mean():.1%} right", flush=True)


if __name__ == "__main__":
    main()
