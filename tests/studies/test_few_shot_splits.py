"""Where the models of splits are kept: a changed setting must never be answered by a model of the old one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.model.bundle.ensemble_bundle import network_digest, save_bundle
from ddpm_seg.studies.evaluate_config import EvaluateConfig
from ddpm_seg.studies.few_shot_splits import _folder, how_trained
from ddpm_seg.studies.splits import Split, digest
from tests.annotated_boxes import annotate
from tests.tiny_bundle import tiny_bundle

BUNDLE = tiny_bundle()
assert BUNDLE.task is not None
assert BUNDLE.features is not None
TASK, FEATURES = BUNDLE.task, BUNDLE.features
LEFT, RIGHT = TASK.class_names[:2]


@pytest.fixture
def split(tmp_path: Path) -> Split:
    images = load_annotations(str(annotate(tmp_path / "images", 2)), image_size=16, task=TASK)
    return Split(name="split-1", train=images[:1], test=images[1:])


def test_whatever_changes_the_scores_changes_the_folder(split: Split, tmp_path: Path) -> None:
    config = EvaluateConfig(images="images", output=str(tmp_path / "out"), splits=1)
    others = [
        (replace(BUNDLE, features=replace(FEATURES, average="mirror")), TASK),
        (replace(BUNDLE, features=replace(FEATURES, refine="guided")), TASK),
        (replace(BUNDLE, features=replace(FEATURES, upsample_mode="nearest")), TASK),
        (BUNDLE, replace(TASK, ignore_label=0)),
        (BUNDLE, replace(TASK, mirror_pairs=((LEFT, RIGHT),))),
        (BUNDLE, replace(TASK, class_names=(RIGHT, LEFT, *TASK.class_names[2:]))),
    ]
    folders = [_folder(config, bundle, task, split) for bundle, task in [(BUNDLE, TASK), *others]]
    assert len(set(folders)) == len(folders)


def test_a_folder_of_an_earlier_release_is_taken_for_the_same_task_and_masks_alone(
    split: Split, tmp_path: Path
) -> None:
    config = EvaluateConfig(images="images", output=str(tmp_path / "out"), splits=1)
    content = repr((network_digest(BUNDLE), FEATURES, *how_trained(BUNDLE), digest(split.train)))
    before = tmp_path / "out" / "split-1" / hashlib.sha256(content.encode()).hexdigest()[:12]
    save_bundle(BUNDLE, str(before / "model"))
    assert _folder(config, BUNDLE, TASK, split) == str(before)
    assert _folder(config, BUNDLE, replace(TASK, ignore_label=0), split) != str(before)
    other = replace(BUNDLE, features=replace(FEATURES, average="shifts"))
    assert _folder(config, other, TASK, split) != str(before)
