from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.members import initial_member, member_generator, member_logits
from ddpm_seg.training.ensemble.tuning import FOLDS, QUICK, Trial, _some_pixels, describe_frontier, frontier, tune
from tests.annotated_boxes import annotate
from tests.model.tiny_networks import TINY_SWAV, TINY_VDVAE, backbone_bundle
from tests.tiny_bundle import tiny_bundle
from tests.training.ensemble.test_ensemble_training import published_classifier, separable_pixels

TASK = TASKS["avatars_10"]
SHORT = replace(QUICK, members=1, iterations=30)


def trial(miou: float, seconds: float) -> Trial:
    return Trial(steps=(5,), blocks=(1, 2), miou=miou, deviation=0.01, seconds=seconds)


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    trials = [trial(0.5, 1), trial(0.7, 2), trial(0.6, 2), trial(0.65, 3), trial(0.8, 4), trial(0.8, 5), trial(0.4, 1)]
    assert [(one.miou, one.seconds) for one in frontier(trials)] == [(0.5, 1), (0.7, 2), (0.8, 4)]
    shown = describe_frontier(trials).splitlines()
    assert len(shown) == 5
    assert "--steps 5 --blocks 1 2" in shown[1]
    assert "best of 7 choices" in shown[-1]


def test_logits_of_a_trained_member_are_the_published_classifiers() -> None:
    features, labels = separable_pixels()
    pixels = torch.arange(len(labels))
    raw = features.gather(pixels)
    (member,) = train_members(features, pixels, labels, 3, EnsembleConfig(members=1, iterations=20))
    expected = published_classifier(dict(member.weights), (128, 32)).eval()(raw)
    torch.testing.assert_close(member_logits(member.weights, raw), expected, rtol=1e-4, atol=1e-4)


def test_selected_maps_are_those_maps() -> None:
    features, _ = separable_pixels()
    pixels = torch.arange(40)
    assert torch.equal(features.select([1]).gather(pixels), features.gather(pixels)[:, 8:])
    assert features.select([1]).maps[0].data_ptr() == features.maps[1].data_ptr()
    assert initial_member(4, 3, member_generator(0, 0))["layers.0.weight"].shape[1] == features.select([1]).num_features


def test_tries_steps_one_by_one_and_then_fewer_blocks(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS)
    bundle = tiny_bundle()
    annotations = load_annotations(str(tmp_path / "images"), image_size=16, task=TASK)
    trials = tune(bundle, annotations, TASK, upsample_mode="bilinear", device="cpu", training=SHORT)
    singles = [one.steps[0] for one in trials if len(one.steps) == 1 and len(one.blocks) == 4]
    assert singles == [0, 2, 5, 10, 15, 25, 40]  # of this network's 100
    best = frontier(trials)[-1]
    assert best.miou == max(one.miou for one in trials) > 0.5  # a bright box on a dark ground
    cut = {one.blocks for one in trials if len(one.blocks) < 4}
    assert cut == {(0, 1, 2), (0, 1), (0,), (1, 2, 3), (2, 3), (3,)}
    quick = next(one for one in trials if one.blocks == (0,))
    whole = next(one for one in trials if one.blocks == (3,))
    assert quick.seconds > 0
    assert len(quick.steps) == len(whole.steps)


def test_a_network_without_steps_is_tried_with_all_blocks_and_the_published_ones(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS)
    annotations = load_annotations(str(tmp_path / "images"), image_size=32, task=TASK)
    bundle = backbone_bundle(TINY_SWAV)
    trials = tune(bundle, annotations, TASK, upsample_mode="bilinear", device="cpu", training=SHORT)
    assert {one.steps for one in trials} == {()}
    first, second = trials[:2]
    assert {first.blocks, second.blocks} == {tuple(range(16)), bundle.network.published_features().blocks}
    assert len(trials) == 8
    assert all(one.seconds > 0 for one in trials)
    assert "  --blocks 0" in describe_frontier(trials)


def test_of_many_blocks_only_the_published_ones_are_tried(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS)
    annotations = load_annotations(str(tmp_path / "images"), image_size=32, task=TASK)
    network = replace(TINY_VDVAE, enc_blocks="32x20,32d2,16x10,16d16,1", dec_blocks="1,16m1,32m16")
    assert (len(network.block_channels), network.published_features().blocks) == (36, (19, 30, 32, 33, 34, 35))
    trials = tune(backbone_bundle(network), annotations, TASK, upsample_mode="bilinear", device="cpu", training=SHORT)
    assert trials[0].blocks == (19, 30, 32, 33, 34, 35)
    assert all(set(one.blocks) < set(trials[0].blocks) for one in trials[1:])


def test_a_single_block_cannot_be_left_out(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS)
    annotations = load_annotations(str(tmp_path / "images"), image_size=16, task=TASK)
    only = ((5,), (2,))
    (one,) = tune(
        tiny_bundle(), annotations, TASK, upsample_mode="bilinear", device="cpu", candidates=only, training=SHORT
    )
    assert (one.steps, one.blocks) == only


def test_an_image_without_annotated_pixels_changes_nothing(tmp_path: Path) -> None:
    """Else a fold of such images alone has no score."""
    annotate(tmp_path / "images", 5)
    annotations = load_annotations(str(tmp_path / "images"), image_size=16, task=TASK)
    blank = replace(annotations[3], label=np.full_like(annotations[3].label, 255))
    options = {"upsample_mode": "bilinear", "device": "cpu", "candidates": ((5,), (2,)), "training": SHORT}
    (one,) = tune(tiny_bundle(), [*annotations[:3], blank, *annotations[3:]], TASK, **options)  # type: ignore[arg-type]
    (other,) = tune(tiny_bundle(), annotations, TASK, **options)  # type: ignore[arg-type]
    assert (one.miou, one.deviation) == (other.miou, other.deviation)
    with pytest.raises(ValueError, match="got 3 with a pixel of"):
        tune(tiny_bundle(), [*annotations[:3], blank, blank], TASK, **options)  # type: ignore[arg-type]


def test_only_pixels_that_count_are_scored() -> None:
    label = np.full((128, 128), 255, dtype=np.uint8)  # more pixels than are drawn
    label[5, :7], label[6, :7] = 1, 0
    pixels, classes = _some_pixels([label] * FOLDS, 2, replace(TASK, ignore_label=0))
    assert sorted(pixels.tolist()) == [2 * 128 * 128 + 5 * 128 + column for column in range(7)]
    assert (classes == 1).all()


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS - 1)
    annotations = load_annotations(str(tmp_path / "images"), image_size=16, task=TASK)
    with pytest.raises(ValueError, match="needs at least 4 annotated images to hold some out, got 3"):
        tune(tiny_bundle(), annotations, TASK, upsample_mode="bilinear", device="cpu")
