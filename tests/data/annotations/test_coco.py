"""COCO's JSON, made by hand from known masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as codec

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.pair import AnnotationError
from ddpm_seg.tasks import Task

TASK = Task(name="pets", class_names=("wall", "cat", "tail"), palette=((9, 9, 9), (255, 0, 0), (0, 255, 0)))
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "tail"}, {"id": 90, "name": "wall"}]
EXPECTED = np.full((8, 8), 255, np.uint8)
EXPECTED[1:7, 1:7] = 1
EXPECTED[2:4, 2:5] = 2


def write_images(folder: Path, *names: str) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8), (40, 90, 200)).save(folder / name)
    return [{"id": 10 + i, "file_name": name, "height": 8, "width": 8} for i, name in enumerate(names)]


def write_json(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return str(path)


def compressed(pixels: np.ndarray) -> dict[str, Any]:
    runs = codec.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def uncompressed(pixels: np.ndarray) -> dict[str, Any]:
    flat = pixels.T.reshape(-1)  # column by column
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(pixels.shape), "counts": np.diff([0, *edges, len(flat)]).tolist()}


def polygon(pixels: np.ndarray) -> list[list[int]]:
    rows, columns = np.nonzero(pixels)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    return [[int(v) for v in (left, top, right, top, right, bottom, left, bottom)]]


@pytest.mark.parametrize("form", [compressed, uncompressed, polygon])
def test_objects_are_drawn_small_over_large(tmp_path: Path, form: Any) -> None:
    images = write_images(tmp_path / "images", "a.png", "unannotated.png")
    cat = np.zeros((8, 8), int)
    cat[1:7, 1:7] = 1
    annotations = [
        {"image_id": 10, "category_id": 3, "segmentation": form((EXPECTED == 2).astype(int))},
        {"image_id": 10, "category_id": 7, "segmentation": form(cat)},
    ]
    uri = write_json(tmp_path / "instances.json", images, annotations)
    (annotation,) = load_annotations(uri, image_size=8, task=TASK)
    assert Path(annotation.uri).name == "a.png"
    np.testing.assert_array_equal(annotation.label, EXPECTED)


def test_panoptic_segments_are_colours(tmp_path: Path) -> None:
    images = write_images(tmp_path, "a.png")
    segments = np.zeros((8, 8, 3), np.uint8)
    segments[EXPECTED == 1] = (5, 1, 0)  # 261
    segments[EXPECTED == 2] = (0, 0, 2)  # 131072
    (tmp_path / "panoptic").mkdir()
    Image.fromarray(segments).save(tmp_path / "panoptic" / "a.png")
    known = [{"id": 261, "category_id": 7}, {"id": 131072, "category_id": 3}]
    panoptic = [{"image_id": 10, "file_name": "a.png", "segments_info": known}]
    (annotation,) = load_annotations(write_json(tmp_path / "panoptic.json", images, panoptic), image_size=8, task=TASK)
    np.testing.assert_array_equal(annotation.label, EXPECTED)
    panoptic[0]["segments_info"] = known[:1]
    with pytest.raises(AnnotationError, match=r"a\.png holds segments without a known category: \[131072\]"):
        load_annotations(write_json(tmp_path / "panoptic.json", images, panoptic), image_size=8, task=TASK)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    images = write_images(tmp_path, "a.png")
    uri = write_json(tmp_path / "x.json", images, [])
    with pytest.raises(AnnotationError, match="holds no annotated images"):
        load_annotations(uri, image_size=8, task=TASK)
    fewer = Task(name="fewer", class_names=("wall", "cat"), palette=((9, 9, 9), (255, 0, 0)))
    with pytest.raises(AnnotationError, match="categories that fewer does not have: tail; expected some of wall, cat"):
        load_annotations(uri, image_size=8, task=fewer)
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(AnnotationError, match=r"x\.json is not COCO's JSON"):
        load_annotations(uri, image_size=8, task=TASK)
    broken = [{"image_id": 10, "category_id": 7, "segmentation": {"size": [8, 8]}}]
    with pytest.raises(AnnotationError, match=r"x\.json, a\.png holds an object that cannot be drawn"):
        load_annotations(write_json(tmp_path / "x.json", images, broken), image_size=8, task=TASK)
