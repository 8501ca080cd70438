"""The choice of how masks are made."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, read_header, save_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.few_shot import choose_features
from ddpm_seg.training.ensemble.mask_tuning import (
    AVERAGES,
    WAYS,
    MaskTrial,
    best_masks,
    describe_masks,
    tune_masks,
    with_masks,
)
from ddpm_seg.training.ensemble.train import train_from_config
from ddpm_seg.training.ensemble.train_config import TrainConfig
from ddpm_seg.training.ensemble.tuning import FOLDS
from tests.annotated_boxes import annotate
from tests.tiny_bundle import tiny_bundle

TASK = TASKS["avatars_10"]


def trial(average: str, resize: str, refine: str, miou: float) -> MaskTrial:
    how = {"average": average, "resize": resize, "refine": refine}
    return MaskTrial(**how, miou=miou, deviation=0.01, boundary_iou=miou / 2, seconds=0.1)  # type: ignore[arg-type]


def large_boxes(folder: Path, count: int) -> Path:
    """Images four times as large as the network sees, with a bright box whose edges lie between its pixels."""
    folder.mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        mask = np.zeros((64, 64), dtype=np.uint8)
        top, left = rng.integers(3, 28, 2)
        mask[top : top + 33, left : left + 33] = 1
        image = np.where(mask[:, :, None] == 1, 220, 30) + rng.integers(-20, 20, (64, 64, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{index}.png")
        np.save(folder / f"{index}.npy", mask)
    return folder


def test_a_dearer_way_must_be_worth_it() -> None:
    base = trial("none", "bilinear", "none", 0.700)
    slightly, clearly = (
        trial("none", "bilinear", "bilateral", 0.704),
        trial("mirror", "bilinear", "none", 0.71),
    )
    assert best_masks([base, slightly]) == base
    assert best_masks([base, slightly, clearly]) == clearly
    assert best_masks([slightly, base]) == slightly  # the first is the cheapest
    text = describe_masks([base, slightly, clearly])
    assert text.splitlines()[-1].startswith("chosen: --average mirror --resize bilinear --refine none")
    assert "0.704 ± 0.010" in text


def test_only_what_is_not_the_default_is_kept() -> None:
    features = FeatureConfig(steps=(1,), blocks=(0,))
    assert with_masks(features, trial("none", "bilinear", "none", 0)) == features
    assert set(features.to_json()) == {"steps", "blocks", "upsample_mode"}
    chosen = with_masks(features, trial("shifts", "nearest", "none", 0))
    assert chosen.to_json() == {**features.to_json(), "average": "shifts", "resize": "nearest"}


def test_images_larger_than_the_network_sees_are_tried_in_every_way(tmp_path: Path) -> None:
    folder = large_boxes(tmp_path / "images", 2 * FOLDS)
    annotations = load_annotations(str(folder), image_size=16, task=TASK, own_size=True)
    bundle = tiny_bundle()
    trials = tune_masks(bundle, annotations, TASK, choose_features(bundle), mode="letterbox", device="cpu")
    assert [(one.average, one.resize, one.refine) for one in trials] == [(a, *way) for a in AVERAGES for way in WAYS]
    by_way = {(one.average, one.resize, one.refine): one for one in trials}
    nearest, plain = by_way["none", "nearest", "none"], by_way["none", "bilinear", "none"]
    refined = by_way["none", "bilinear", "bilateral"]
    assert refined.boundary_iou > plain.boundary_iou + 0.1 > nearest.boundary_iou  # edges lie between network pixels
    assert all(0 < one.miou < 1 and one.seconds > 0 for one in trials)
    assert best_masks(trials).refine != "none"


def _network_of_few_steps() -> Bundle:
    """With few steps, so that there is less to tune before the masks."""
    bundle = tiny_bundle()
    network = dataclasses.replace(bundle.ddpm, diffusion=DiffusionConfig(steps=21))
    features = FeatureConfig(steps=(1,), blocks=(0, 1))
    return dataclasses.replace(bundle, network=network, features=features, members=(), task=None)


@pytest.mark.slow
def test_training_keeps_the_choice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    large_boxes(tmp_path / "images", FOLDS)
    save_bundle(_network_of_few_steps(), str(tmp_path / "network"))
    places = {"model": str(tmp_path / "network"), "images": str(tmp_path / "images"), "output": str(tmp_path / "out")}
    with caplog.at_level(logging.INFO):
        trained = train_from_config(TrainConfig(**places, task="avatars_10", members=2, iterations=60, tune=True))
    assert trained.features is not None
    assert trained.features.refine in ("bilateral", "guided")
    assert read_header(str(tmp_path / "out")).features == trained.features
    assert f"--refine {trained.features.refine}, the cheapest within" in caplog.text


def test_at_the_networks_own_size_only_averages_are_tried(tmp_path: Path) -> None:
    folder = annotate(tmp_path / "images", FOLDS)
    annotations = load_annotations(str(folder), image_size=16, task=TASK, own_size=True)
    bundle = tiny_bundle()
    trials = tune_masks(bundle, annotations, TASK, choose_features(bundle), mode="letterbox", device="cpu")
    assert [(one.average, one.resize, one.refine) for one in trials] == [(a, *WAYS[0]) for a in AVERAGES]
