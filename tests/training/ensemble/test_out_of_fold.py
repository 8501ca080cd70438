"""Out-of-fold predictions: no image is predicted by what was trained on it, and planted errors are found by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.evaluation.pages.annotation_review import annotation_review, review
from ddpm_seg.evaluation.scores.annotation_errors import label_quality, weakest_class
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import extract_features
from ddpm_seg.training.ensemble.few_shot import choose_features
from ddpm_seg.training.ensemble.out_of_fold import FOLDS, out_of_fold
from ddpm_seg.training.ensemble.train import REVIEW, train_from_config
from ddpm_seg.training.ensemble.train_config import TrainConfig
from tests.annotated_boxes import annotate
from tests.tiny_bundle import tiny_bundle

SIZE, TASK = 16, TASKS["avatars_10"]
SHORT = EnsembleConfig(members=2, iterations=120)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> list[Annotation]:
    folder = tmp_path_factory.mktemp("annotated") / "images"
    annotate(folder, 2 * FOLDS)
    return load_annotations(str(folder), image_size=SIZE, task=TASK, own_size=True)


def predicted(annotations: list[Annotation]) -> list[tuple[Annotation, NDArray[np.float32]]]:
    bundle = tiny_bundle()
    maps = extract_features(bundle, annotations, choose_features(bundle), "cpu")
    return list(out_of_fold(maps, annotations, TASK, SHORT))


def test_every_image_is_predicted_once(annotations: list[Annotation]) -> None:
    found = predicted(annotations)
    assert sorted(one.uri for one, _ in found) == sorted(one.uri for one in annotations)
    for annotation, p_KSS in found:
        assert p_KSS.shape == (TASK.num_classes, SIZE, SIZE)
        np.testing.assert_allclose(p_KSS.sum(axis=0), 1, atol=1e-5)
        assert (p_KSS.argmax(axis=0) == annotation.label).mean() > 0.8  # a bright box on a dark ground


@pytest.mark.parametrize("average", ["mirror", "shifts"])
def test_where_tuning_chose_views_the_folds_answer_with_them(
    annotations: list[Annotation], average: Literal["mirror", "shifts"]
) -> None:
    """Else confidence would be calibrated for other answers than labelling gives."""
    bundle = tiny_bundle()
    features = choose_features(bundle)
    averaged = replace(bundle, features=replace(features, average=average), task=TASK, members=())
    plain = {one.uri: p for one, p in predicted(annotations)}
    maps = extract_features(bundle, annotations, features, "cpu")
    found = list(out_of_fold(maps, annotations, TASK, SHORT, averaged))
    assert sorted(one.uri for one, _ in found) == sorted(plain)
    for one, p_KSS in found:
        np.testing.assert_allclose(p_KSS.sum(axis=0), 1, atol=1e-5)
        assert (p_KSS.argmax(axis=0) == one.label).mean() > 0.8
        assert np.abs(p_KSS - plain[one.uri]).max() > 0.01


def test_the_scale_of_the_features_does_not_matter_in_any_fold(annotations: list[Annotation]) -> None:
    bundle = tiny_bundle()
    maps = extract_features(bundle, annotations, choose_features(bundle), "cpu")
    for one in maps.maps:
        one.mul_(16).add_(64)
    found = {one.uri: p for one, p in out_of_fold(maps, annotations, TASK, SHORT)}
    for one, p_KSS in predicted(annotations):
        assert np.abs(found[one.uri] - p_KSS).mean() < 0.02


def test_an_images_own_annotation_has_no_say(annotations: list[Annotation]) -> None:
    first = annotations[0]
    other = np.where(first.label == 0, 5, 0).astype(np.uint8)
    before = {one.uri: p for one, p in predicted(annotations)}
    after = {one.uri: p for one, p in predicted([replace(first, label=other), *annotations[1:]])}
    np.testing.assert_array_equal(before[first.uri], after[first.uri])
    assert not np.array_equal(before[annotations[1].uri], after[annotations[1].uri])


def test_a_wrong_annotation_is_the_first_on_the_page(annotations: list[Annotation]) -> None:
    wrong = replace(annotations[3], label=np.zeros_like(annotations[3].label))  # its box left out
    shown = [*annotations[:3], wrong, *annotations[4:]]
    found = sorted((review(one, p, TASK) for one, p in predicted(shown)), key=lambda one: one.agreement)
    assert found[0].annotation.uri == wrong.uri
    assert found[0].suspects[0].annotated == 0
    page = annotation_review(found, TASK)
    names = [one.annotation.uri.rpartition("/")[2] for one in found]
    assert page.index(f"{names[0]}</bdi>") < page.index(f"{names[-1]}</bdi>")
    assert f"annotated {TASK.class_names[0]}, probably" in page


def test_padding_is_not_reviewed(annotations: list[Annotation]) -> None:
    p_SSK = np.random.default_rng(0).dirichlet(np.ones(TASK.num_classes), (SIZE, SIZE)).astype(np.float32)
    p_KSS = p_SSK.transpose(2, 0, 1)
    narrow = replace(annotations[0].placement, top=4, height=8)
    label = np.full((SIZE, SIZE), 255, np.uint8)
    label[4:12] = annotations[0].label[4:12]
    found = review(replace(annotations[0], placement=narrow, label=label), p_KSS, TASK)
    assert found.quality == label_quality(p_KSS[:, 4:12], label[4:12])
    assert found.agreement == weakest_class(p_KSS[:, 4:12], label[4:12])


def test_training_writes_the_review_and_calibrates(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS)
    save_bundle(replace(tiny_bundle(), members=(), task=None), str(tmp_path / "network"))
    places = {"model": str(tmp_path / "network"), "images": str(tmp_path / "images"), "output": str(tmp_path / "out")}
    config = TrainConfig(**places, task="avatars_10", members=2, iterations=60, out_of_fold=True)
    trained = train_from_config(config)
    assert "Review of annotations" in (tmp_path / "out" / REVIEW).read_text()
    assert trained.calibration is not None
    assert trained.calibration.images == FOLDS
    assert load_bundle(str(tmp_path / "out")).calibration == trained.calibration
    with pytest.raises(ValueError, match=f"at least {FOLDS}, got 2"):
        train_from_config(replace(config, limit=2, output=str(tmp_path / "other")))
