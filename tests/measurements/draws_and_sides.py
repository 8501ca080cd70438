"""What more noises and a larger input are worth: the mean IoU of ensembles on the features of the model in the box.

python -m tests.measurements.draws_and_sides AVATARS --draws 1 4 --sides 64 96 128 --splits 1 2 3 4 5 --limit 25

AVATARS: the folder that jobs.avatars wrote. Each choice is scored at the images' own size. Results stand in
AVATARS/draws_and_sides.json, and those that are there are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.canvas import restore_mask
from ddpm_seg.evaluation.scores.miou import confusion_matrix, published_miou
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.few_shot import train_bundle
from ddpm_seg.training.ensemble.larger_input import at_side

TASK = TASKS["avatars_10"]
TRAINING = EnsembleConfig(members=3, iterations=400)


def score(avatars: Path, split: int, draws: int, side: int, limit: int) -> dict[str, float]:
    """`miou` on the first `limit` test avatars at their own size, and processor `seconds` to label one."""
    bundle = at_side(load_bundle("avatars-10"), side)
    assert bundle.features is not None
    features = dataclasses.replace(bundle.features, noise_draws=draws if draws > 1 else None)
    train = load_annotations(str(avatars / f"annotated-{split}"), image_size=side, task=TASK)
    test = load_annotations(str(avatars / "test"), image_size=side, task=TASK, limit=limit, own_size=True)
    trained = train_bundle(bundle, train, task=TASK, features=features, training=TRAINING)
    segmenter = Segmenter(trained, device="cpu")
    total, started = np.zeros((TASK.num_classes + 1,) * 2, np.int64), time.process_time()
    for one, pixels in zip(test, segmenter.segment(np.stack([one.image for one in test])), strict=True):
        mask = restore_mask(pixels.label, one.placement)
        total += confusion_matrix(mask, one.own_label(), TASK.num_classes)
    seconds = (time.process_time() - started) / len(test)
    return {"miou": published_miou(total, TASK.ignore_label), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("avatars", type=Path)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--limit", type=int, default=25)
    asked = parser.parse_args()
    file = asked.avatars / "draws_and_sides.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    choices = [(draws, 64) for draws in asked.draws] + [(1, side) for side in asked.sides if side != 64]
    for split in asked.splits:
        for draws, side in choices:
            name = f"draws {draws}, side {side}, split {split}, {asked.limit} images"
            if name not in found:
                found[name] = score(asked.avatars, split, draws, side, asked.limit)
                file.write_text(json.dumps(found, indent=1))
                print(name, found[name], flush=True)
    for draws, side in choices:
        own = [found[f"draws {draws}, side {side}, split {split}, {asked.limit} images"] for split in asked.splits]
        mious = [one["miou"] for one in own]
        deviation = stdev(mious) if len(mious) > 1 else 0.0
        seconds = fmean(one["seconds"] for one in own)
        print(f"draws {draws}, side {side}: mean IoU {fmean(mious):.3f} ± {deviation:.3f}, {seconds:.2f} s per image")


if __name__ == "__main__":
    main()
