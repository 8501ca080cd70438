"""How well a learning curve says which class gains most from more annotations.

    python -m tests.measurements.next_class --model avatars-10 --images POOL --splits 5

For every split it trains small ensembles on 5, 10, 20 and 40 annotated images and scores all on the same others. From
the first three it predicts each class's gain from 20 to 40, and compares that with the gain that came.
"""

from __future__ import annotations

import argparse
import csv
import sys

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.evaluation.scores.expected_gains import gain_of_doubling
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.studies.splits import draw_splits
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import extract_features
from tests.measurements.few_shot_pool import Pool

SHOTS = (5, 10, 20, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-10")
    parser.add_argument("--images", required=True)
    parser.add_argument("--limit", type=int, default=140)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[60])
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=300)
    options = parser.parse_args()
    bundle = load_bundle(options.model)
    task = bundle.task
    assert task is not None
    features = FeatureConfig(steps=tuple(options.steps), blocks=tuple(options.blocks))
    images = load_annotations(options.images, image_size=bundle.network.image_size, task=task, limit=options.limit)
    training = EnsembleConfig(members=options.members, iterations=options.iterations)
    pool = Pool(extract_features(bundle, images, features, "cpu"), images, task, training)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["split", "shots", *task.class_names])
    ious_RNK = np.empty((options.splits, len(SHOTS), task.num_classes))
    for number, shots in enumerate(SHOTS):
        for split in draw_splits(range(len(images)), count=options.splits, shots=shots, kept_back=SHOTS[-1]):
            index = int(split.name.rpartition("-")[2]) - 1
            ious_RNK[index, number] = pool.ious(pool.trained(split.train), split.test)
            rows.writerow([split.name, shots, *ious_RNK[index, number].round(4)])
            sys.stdout.flush()
    _compare(ious_RNK, task)


def _compare(ious_RNK: NDArray[np.float64], task: Task) -> None:
    """Prints predicted and true gains, and their rank correlation over the classes."""
    few, true_RK = ious_RNK[:, :-1], ious_RNK[:, -1] - ious_RNK[:, -2]
    predicted_RK = np.stack([gain_of_doubling(SHOTS[:-1], few[..., k]) for k in range(task.num_classes)], axis=1)
    ways = {
        "power law": predicted_RK,
        "1 - IoU": 1 - few[:, -1],
        "last gain": few[:, -1] - few[:, -2],
    }
    print(f"\n{'class':<14}{'IoU at 20':>10}{'predicted':>18}{'true':>18}")
    for k, name in enumerate(task.class_names):
        cells = [f"{one[:, k].mean():.3f} ± {one[:, k].std(ddof=1):.3f}" for one in (predicted_RK, true_RK)]
        print(f"{name:<14}{few[:, -1, k].mean():>10.3f}{cells[0]:>18}{cells[1]:>18}")
    print("\nrank correlation over the classes with the true gain: of the means over the splits; of single splits")
    for name, way_RK in ways.items():
        single = [spearmanr(*pair).statistic for pair in zip(way_RK, true_RK, strict=True)]
        print(
            f"{name:<12}{spearmanr(way_RK.mean(axis=0), true_RK.mean(axis=0)).statistic:>6.2f}"
            f"{np.mean(single):>8.2f} ± {np.std(single, ddof=1):.2f}"
        )


if __name__ == "__main__":
    main()
