"""Whether `jobs.label --active` helps: ten random annotated images and ten that it chooses, against twenty random ones.

    python -m tests.measurements.active --model avatars-10 --images POOL --seeds 5
    python -m tests.measurements.active --model bundles/cars --images cars/learn.json \
        --image-root trainingset --uncovered background

POOL has annotated images, in any form that jobs.train takes; each seed draws its own `--test` of them to score on. Both
ensembles of a seed begin with the same ten images; the first of them chooses the others among the rest of the pool, as
the job does.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.evaluation.tables.active import farthest_first
from ddpm_seg.fits import fit_of
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import extract_features
from tests.measurements.few_shot_pool import Members, Pool

HALF = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-10", help="a bundle with a task")
    parser.add_argument("--images", required=True)
    parser.add_argument("--image-root")
    parser.add_argument("--uncovered")
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[60])
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=400)
    options = parser.parse_args()
    bundle = load_bundle(options.model)
    assert bundle.task is not None
    features = FeatureConfig(steps=tuple(options.steps), blocks=tuple(options.blocks))
    images = load_annotations(
        options.images,
        image_size=bundle.network.image_size,
        task=bundle.task,
        options=AnnotationOptions(image_root=options.image_root, uncovered=options.uncovered),
        mode=fit_of(bundle.provenance),
    )
    training = EnsembleConfig(members=options.members, iterations=options.iterations)
    pool = Pool(extract_features(bundle, images, features, "cpu"), images, bundle.task, training)
    scores = np.array([one_seed(pool, seed, options.test) for seed in range(options.seeds)])
    for name, one in zip(("10 random", "20 random", "10 + 10 by --active"), scores.transpose(1, 0, 2), strict=True):
        print(f"{name:<20} mIoU {_mean(one.mean(axis=1))}")
    gain = scores[:, 2] - scores[:, 1]
    print(f"--active against random, pairs: {_mean(gain.mean(axis=1))}")
    for k, name in enumerate(bundle.task.class_names):
        print(f"  {name:<20} {_mean(scores[:, 1, k])} random, gain {_mean(gain[:, k])}")


def one_seed(pool: Pool, seed: int, test: int) -> list[NDArray[np.float64]]:
    """IoU by class of ensembles trained on 10 images, 20 random ones, and 10 with 10 that the first chose."""
    order = np.random.default_rng(seed).permutation(len(pool.images)).tolist()
    scored, others = order[:test], order[test:]
    begun = pool.trained(others[:HALF])
    more = chosen(pool, begun, others[HALF:], HALF)
    random, active = pool.trained(others[: 2 * HALF]), pool.trained([*others[:HALF], *more])
    ious = [pool.ious(members, scored) for members in (begun, random, active)]
    print(f"seed {seed}: " + ", ".join(f"{one.mean():.4f}" for one in ious), flush=True)
    return ious


def chosen(pool: Pool, members: Members, numbers: list[int], count: int) -> list[int]:
    """The images that `--active` would choose among these: by uncertainty, split among the predicted classes."""
    vectors = np.zeros((len(numbers), pool.task.num_classes), np.float32)
    for row, number in enumerate(numbers):
        p_MPK = np.stack([pool.probabilities([member], number) for member in members])
        mean_PK = p_MPK.mean(axis=0)
        doubt_P = _entropy(mean_PK) - _entropy(p_MPK).mean(axis=0)  # Jensen-Shannon divergence
        np.add.at(vectors[row], mean_PK.argmax(axis=1), doubt_P / pool.size)
    return [numbers[place] for place in farthest_first(vectors, count)]


def _entropy(p: NDArray[np.float32]) -> NDArray[np.float32]:
    return -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)


def _mean(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


if __name__ == "__main__":
    main()
