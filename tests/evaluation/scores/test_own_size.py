"""Scores of a `labels` table at its images' own size, against masks compared one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg.data.annotations.load import Annotation, OwnSize
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.table_pictures import encode_png, picture_cell
from ddpm_seg.evaluation.scores.own_size import of_table
from tests.tiny_bundle import TASK

SIZE, IGNORED = 16, 4


def image(seed: int, height: int, width: int) -> tuple[dict[str, Any], Annotation]:
    """A row of labels, and the annotation of the same image, which it gets right nine times in ten."""
    draw = np.random.default_rng(seed)
    target = np.kron(draw.integers(0, IGNORED + 1, (height // 8, width // 8)), np.ones((8, 8))).astype(np.uint8)
    target[:3] = 255
    mask = np.where(draw.random(target.shape) < 0.9, target, draw.integers(0, IGNORED, target.shape)).astype(np.uint8)
    mask[mask == 255] = 0
    canvas, placement = fit(np.zeros((height, width, 3), np.uint8), SIZE)
    confidence = draw.integers(200, 256, target.shape).astype(np.uint8)
    row = {
        "uri": f"{seed}.png",
        "width": width,
        "height": height,
        "mask": picture_cell(mask),
        "confidence_map": picture_cell(confidence),
    }
    own = OwnSize(mask=encode_png(target), read_image=bytes)
    label = np.zeros((SIZE, SIZE), np.uint8)
    return row, Annotation(uri=f"{seed}.png", image=canvas, label=label, placement=placement, own=own)


ROWS, ANNOTATIONS = map(list, zip(*(image(seed, 40, 64) for seed in range(3)), strict=True))


def test_every_pixel_of_every_image_counts() -> None:
    found = of_table(pa.Table.from_pylist(ROWS), ANNOTATIONS, TASK)
    assert 0.5 < found["miou"] < 1
    assert found["boundary_iou_2px"] < found["usual_miou"]
    confidence = found["confidence"]["classes"]
    pixels = sum(row["pixels"] for row in confidence)
    counted = sum(int((one.own_label() < TASK.num_classes).sum()) for one in ANNOTATIONS)
    assert pixels == counted
    assert all(0.78 < row["confidence"] < 1 for row in confidence if row["confidence"] is not None)
    assert len(found["confidence"]["risk_coverage"]) == 10


def test_a_perfect_mask_scores_one() -> None:
    rows = []
    for row, annotation in zip(ROWS, ANNOTATIONS, strict=True):
        target = annotation.own_label()
        rows.append({**row, "mask": picture_cell(np.where(target == 255, np.uint8(1), target))})
    found = of_table(pa.Table.from_pylist(rows), ANNOTATIONS, TASK)
    assert found["usual_miou"] == found["boundary_iou"] == found["boundary_iou_2px"] == 1
    assert found["confidence"]["risk_coverage"][-1]["error"] == 0


def test_the_ignored_class_has_no_edges() -> None:
    ignoring = replace(TASK, ignore_label=0)
    found = of_table(pa.Table.from_pylist(ROWS), ANNOTATIONS, ignoring)
    assert found["classes"][0]["boundary_iou"] is None
    assert (
        found["confidence"]["classes"][0]["pixels"]
        < of_table(pa.Table.from_pylist(ROWS), ANNOTATIONS, TASK)["confidence"]["classes"][0]["pixels"]
    )


def test_masks_without_confidence_are_scored_without_it() -> None:
    table = pa.Table.from_pylist(ROWS)
    found = of_table(table.drop_columns(["confidence_map"]), ANNOTATIONS, TASK)
    assert found["confidence"] is None
    assert {**found, "confidence": 1} == {**of_table(table, ANNOTATIONS, TASK), "confidence": 1}


def test_annotations_must_have_been_kept_at_their_own_size() -> None:
    bare = [replace(one, own=None) for one in ANNOTATIONS]
    with pytest.raises(ValueError, match="own size"):
        of_table(pa.Table.from_pylist(ROWS), bare, TASK)
