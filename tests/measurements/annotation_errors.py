"""Whether the review of annotations finds planted errors: area under the ROC curve per image, one kind at a time.

    python -m tests.measurements.annotation_errors --images 60

Errors are planted in a tenth of the avatars: two parts swapped, a part left out, the mask shifted by two pixels. Each
image is scored by the agreement of its weakest class, which orders the page, and by cleanlab's softmin.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ddpm_seg.evaluation.pages.annotation_review import review
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import extract_features
from ddpm_seg.training.ensemble.out_of_fold import out_of_fold
from tests.measurements.confidence import annotated

Label = NDArray[np.uint8]


def swapped(label: Label, draw: np.random.Generator) -> Label:
    """Two of the parts inside the face or on the body carry each other's class."""
    one, other = draw.permutation(_parts(label))[:2]
    return np.where(label == one, other, np.where(label == other, one, label)).astype(np.uint8)


def left_out(label: Label, draw: np.random.Generator) -> Label:
    """A part carries the class that surrounds it most."""
    part = draw.permutation(_parts(label))[0]
    inside = label == part
    around = np.zeros_like(inside)
    for axis in (0, 1):
        for shift in (-1, 1):
            around |= np.roll(inside, shift, axis)
    return np.where(inside, np.bincount(label[around & ~inside]).argmax(), label).astype(np.uint8)


def shifted(label: Label, draw: np.random.Generator) -> Label:
    return np.roll(label, 2 * draw.choice([-1, 1]), axis=draw.integers(2))


KINDS: dict[str, Callable[[Label, np.random.Generator], Label]] = {
    "two parts swapped": swapped,
    "a part left out": left_out,
    "shifted by two pixels": shifted,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--skip", type=int, default=0, help="avatars to leave out first")
    parser.add_argument("--iterations", type=int, default=1500, help="of the whole ensemble; a fold takes half")
    options = parser.parse_args()
    bundle, annotations = load_bundle("avatars-10"), annotated("plenty", options.skip + options.images)[options.skip :]
    assert bundle.features is not None
    assert bundle.task is not None
    maps = extract_features(bundle, annotations, bundle.features, "cpu")
    for name, plant in KINDS.items():
        draw = np.random.default_rng(options.skip)
        wrong = set(draw.choice(len(annotations), max(1, len(annotations) // 10), replace=False).tolist())
        shown = [
            dataclasses.replace(one, label=plant(one.label, draw)) if index in wrong else one
            for index, one in enumerate(annotations)
        ]
        training = EnsembleConfig(iterations=options.iterations)
        found = [review(one, p_KSS, bundle.task) for one, p_KSS in out_of_fold(maps, shown, bundle.task, training)]
        of = {one.annotation.uri: one for one in found}
        planted = np.array([index in wrong for index in range(len(shown))])
        weakest, softmin = (
            _auroc([-score(of[one.uri]) for one in shown], planted)
            for score in (attrgetter("agreement"), attrgetter("quality"))
        )
        print(f"{name}: AUROC {weakest:.3f} by the weakest class, {softmin:.3f} by the softmin", flush=True)


def _parts(label: Label) -> list[int]:
    """Classes but the background with at least 12 pixels."""
    counts = np.bincount(label.ravel())
    return [int(one) for one in np.flatnonzero(counts >= 12) if one]


def _auroc(scores: list[float], positive: NDArray[np.bool_]) -> float:
    ranks, number = rankdata(scores), positive.sum()
    return float((ranks[positive].sum() - number * (number + 1) / 2) / (number * (len(scores) - number)))


if __name__ == "__main__":
    main()
