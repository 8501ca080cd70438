from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.exports.coco import write_coco
from ddpm_seg.tasks import UNLABELLED
from tests.data.exports.drawn import TASK, pictures, pixels_of


def test_pycocotools_reads_the_same_masks(tmp_path: Path) -> None:
    write_coco(pictures(), TASK, str(tmp_path))
    coco = COCO(str(tmp_path / "annotations.json"))
    classes = {category["id"]: TASK.class_names.index(category["name"]) for category in coco.loadCats(coco.getCatIds())}
    assert sorted(classes.values()) == [0, 1, 2]
    assert 0 not in classes
    for one, image in zip(pictures(), coco.loadImgs(coco.getImgIds()), strict=True):
        assert (image["uri"], image["uncertainty"]) == (one.uri, one.uncertainty)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / image["file_name"])), pixels_of(one))
        mask = np.full(one.mask.shape, UNLABELLED, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            pixels = coco.annToMask(annotation).astype(bool)
            mask[pixels] = classes[annotation["category_id"]]
            assert annotation["area"] == pixels.sum()
            rows, columns = np.nonzero(pixels)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
        assert np.array_equal(mask, one.mask)


def test_it_comes_back_as_annotations(tmp_path: Path) -> None:
    square = [one for one in pictures() if one.mask.shape == (6, 6)]
    write_coco(square, TASK, str(tmp_path))
    (annotation,) = load_annotations(str(tmp_path / "annotations.json"), image_size=6, task=TASK)
    assert np.array_equal(annotation.label, square[0].mask)
