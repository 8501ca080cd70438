from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import fit
from ddpm_seg.evaluation.scores import learnt_from
from ddpm_seg.evaluation.scores.metrics import metrics
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.evaluation.scores.score_labels import Scored
from ddpm_seg.tasks import Task

TASK = Task(name="two", class_names=("wall", "cat"), palette=((9, 9, 9), (200, 0, 0)), ignore_label=None)


def annotated(seed: int) -> Annotation:
    generator = np.random.default_rng(seed)
    image, placement = fit(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8), 8, "letterbox")
    label = generator.integers(0, 2, (8, 8), dtype=np.uint8)
    return Annotation(uri=f"s3://bucket/{seed}.png", image=image, label=label, placement=placement)


def scored(annotation: Annotation, *, right: bool) -> Scored:
    predicted = annotation.label if right else 1 - annotation.label
    return Scored(
        uri=annotation.uri,
        image=annotation.image,
        target=annotation.label,
        predicted=predicted,
        uncertainty=0.0,
        confusion=confusion_matrix(predicted, annotation.label, 2),
        pixels=64,
        wrong=0 if right else 64,
    )


@pytest.mark.parametrize("learnt", range(4))
def test_scores_without_what_was_learnt_are_those_of_the_others(learnt: int) -> None:
    """The model knows by heart what it learnt, and gets all else wrong."""
    images = [annotated(seed) for seed in range(3)]
    provenance: dict[str, Any] = {"learnt_from": learnt_from.record(images[:learnt])}
    renamed = [dataclasses.replace(one, uri="elsewhere/" + one.uri) for one in images]
    results = [scored(one, right=number < learnt) for number, one in enumerate(images)]
    found = learnt_from.seen_before(provenance, renamed, results, TASK)
    assert found["images"] == learnt
    if learnt in (0, 3):
        assert found["without"] is None
    else:
        assert found["without"] == {"images": 3 - learnt, "miou": 0.0, "usual_miou": 0.0, "pixel_accuracy": 0.0}
    whole = {**metrics(np.sum([one.confusion for one in results], axis=0), TASK), "images": 3, "learnt_from": found}
    sentence = learnt_from.describe(whole)
    assert bool(sentence) == (learnt > 0)
    assert f"trained on {learnt} of these 3 images" in sentence or not learnt


def test_a_bundle_from_before_does_not_say() -> None:
    one = annotated(0)
    found = learnt_from.seen_before({}, [one], [scored(one, right=True)], TASK)
    assert found == {"images": None, "without": None}
    assert "does not say which images it was trained on" in learnt_from.describe({"learnt_from": found})
