"""Whether confidence means what it says: the model in the box on avatars, before and after calibration, and how far the
promise of conformal risk control holds.

    python -m tests.measurements.confidence
    python -m tests.measurements.confidence --annotated

Calibrated on the 200 validation avatars, judged on the 500 of the test set. Risk is controlled on random sets of 100
and 500 of another 1,000 avatars, and measured on the rest of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.avatars.render import render
from ddpm_seg.data.avatars.splits import AVATAR_SPLITS
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.image_labels import own_size_mask
from ddpm_seg.evaluation.scores.reliability import class_reliability, count, expected_calibration_error
from ddpm_seg.evaluation.scores.risk_control import Kept, control_risk, kept_shares
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.calibrating import annotated_pixels, calibrate, fitted
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.few_shot import train_bundle
from ddpm_seg.training.ensemble.out_of_fold import out_of_fold

Mask = NDArray[np.uint8]
POOL, ROUNDS = 1000, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotated", action="store_true", help="calibrate from 20 annotated avatars alone")
    parser.add_argument("--iterations", type=int, default=1500, help="to train with, with --annotated")
    parser.add_argument("--test", type=int, default=500, help="test avatars to judge on; 0 only times the training")
    options = parser.parse_args()
    bundle = load_bundle("avatars-10")
    assert bundle.task is not None
    if options.annotated:
        from_annotated(bundle, options.iterations, options.test)
        return
    calibrated = dataclasses.replace(bundle, calibration=calibrate(bundle, annotated("validation", 200)))
    print("temperatures", calibrated.calibration)
    test = annotated("test", options.test)
    for name, one in (("raw", bundle), ("calibrated", calibrated)):
        report(name, one, test, bundle.task)
    pool = [
        kept_shares(confidence, mask, target, bundle.task.num_classes)
        for confidence, mask, target in said_of(calibrated, annotated("plenty", POOL))
    ]
    for number, target in ((100, 0.01), (100, 0.02), (500, 0.01), (500, 0.02)):
        controlled(pool, number, target)


def from_annotated(bundle: Bundle, iterations: int, number: int) -> None:
    """An ensemble trained on 20 annotated avatars and calibrated by its own folds, as jobs.train --out-of-fold does."""
    assert bundle.task is not None
    assert bundle.features is not None
    task, shown, training = bundle.task, annotated("annotated-1", 20), EnsembleConfig(iterations=iterations)
    with tempfile.TemporaryDirectory() as folder:  # where jobs.train keeps the features, too
        workplace = Workplace(folder=folder)
        start = time.process_time()
        trained = train_bundle(
            bundle, shown, task=task, features=bundle.features, training=training, workplace=workplace
        )
        middle = time.process_time()
        maps = extract_features(bundle, shown, bundle.features, "cpu", workplace)
        folds = enumerate(out_of_fold(maps, shown, task, training))
        pixels = [annotated_pixels(p, one, task, seed) for seed, (one, p) in folds]
    calibrated = dataclasses.replace(trained, calibration=fitted(pixels, task))
    alone, more = middle - start, time.process_time() - middle
    print(f"processor time: {alone:.1f} s to train, {more:.1f} s for the folds: {1 + more / alone:.2f} times in all")
    if number == 0:
        return
    test = annotated("test", number)
    for name, one in (("raw", trained), ("calibrated", calibrated)):
        report(name, one, test, task)


def annotated(split: str, number: int) -> list[Annotation]:
    found = []
    for index in range(number):
        image, label = render(AVATAR_SPLITS[split].seed, index)
        canvas, placement = fit(image, len(label))
        found.append(Annotation(uri=f"{split}/{index}", image=canvas, label=label, placement=placement))
    return found


def said_of(bundle: Bundle, annotations: list[Annotation]) -> Iterator[tuple[Mask, Mask, Mask]]:
    """Confidence in 255ths, mask and annotation of each."""
    segmenter = Segmenter(bundle)
    for start in range(0, len(annotations), 20):
        batch = annotations[start : start + 20]
        answers = segmenter.segment(np.stack([one.image for one in batch]))
        for one, answer in zip(batch, answers, strict=True):
            found = own_size_mask(answer, one.placement, "bilinear")
            yield found.confidence, found.mask, one.label


def report(name: str, bundle: Bundle, annotations: list[Annotation], task: Task) -> None:
    counts = [count(*image, task.num_classes) for image in said_of(bundle, annotations)]
    total = sum(counts[1:], counts[0])
    rows = [row for row in class_reliability(total, task.class_names) if row["pixels"]]
    gaps = {row["class_name"]: row["confidence"] - row["precision"] for row in rows}
    worst = max(gaps, key=lambda one: abs(gaps[one]))
    print(f"{name}: ECE {expected_calibration_error(total):.4f}, largest gap {worst} {gaps[worst]:+.3f}")
    print("   ", ", ".join(f"{r['class_name']} {r['confidence']:.3f}/{r['precision']:.3f}" for r in rows))


def controlled(pool: list[Kept], number: int, target: float) -> None:
    draw, risks, kept = np.random.default_rng(0), [], []
    for _ in range(ROUNDS):
        order = draw.permutation(len(pool))
        threshold = control_risk([pool[one] for one in order[:number]], target).confidence
        rest = [pool[one] for one in order[number:]]
        risks.append(np.mean([one.wrong[threshold] for one in rest]))
        kept.append(np.mean([one.kept[threshold] for one in rest]))
    print(
        f"target {target:.0%} from {number} images, {ROUNDS} random sets: mean risk {np.mean(risks):.4f} "
        f"(90 % of the sets up to {np.quantile(risks, 0.9):.4f}), kept {np.mean(kept):.1%}"
    )


if __name__ == "__main__":
    main()
