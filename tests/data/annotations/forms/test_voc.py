"""Folders in Pascal VOC's layout. Their files are as Datumaro 1.13.12 writes them, with which CVAT exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.tasks import Task

TASK = Task(
    name="pets", class_names=("wall", "cat", "dog"), palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)), ignore_label=None
)
LABELS = """# label:color_rgb:parts:actions
background:0,0,0::
dog:61,245,61::
cat:250,50,83:head,tail:sit
"""
COLORS = np.array([(0, 0, 0), (61, 245, 61), (250, 50, 83), (224, 224, 192)], np.uint8)
NUMBERS = np.random.default_rng(0).integers(0, 4, (2, 8, 8))
"""Masks of the names x and sub/y: background, dog, cat, and VOC's border."""
IDS = np.array([255, 2, 1, 255])[NUMBERS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, numbers in zip(("x", "sub/y"), NUMBERS, strict=True):
        for kind, pixels, suffix in (
            ("JPEGImages", COLORS[numbers], "jpg"),
            ("SegmentationClass", COLORS[numbers], "png"),
        ):
            path = tmp_path / kind / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "labelmap.txt").write_text(LABELS)
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text('"sub/y"\n\n')
    return tmp_path


def labels(uri: Path, task: Task = TASK, **options: str) -> dict[str, list[list[int]]]:
    found = load_annotations(str(uri), image_size=8, task=task, options=AnnotationOptions(**options))
    return {Path(one.uri).stem: one.label.tolist() for one in found}


def test_colours_are_labels_matched_by_name(folder: Path) -> None:
    assert labels(folder) == {"x": IDS[0].tolist(), "y": IDS[1].tolist()}
    uncovered = np.where(NUMBERS == 0, 0, IDS)
    assert labels(folder, uncovered="wall") == {"x": uncovered[0].tolist(), "y": uncovered[1].tolist()}
    named = Task(name="pets", class_names=("background", "dog", "cat"), palette=TASK.palette, ignore_label=None)
    assert labels(folder, named)["x"] == np.array([0, 1, 2, 255])[NUMBERS[0]].tolist()


def test_a_list_chooses_and_other_images_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (8, 8)).save(folder / "JPEGImages" / "unlabelled.jpg")
    assert set(labels(folder)) == {"x", "y"}
    assert "1 images without a mask are left out" in caplog.text
    assert labels(folder / "ImageSets" / "Segmentation" / "train.txt") == {"y": IDS[1].tolist()}
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("x\nz\n")
    with pytest.raises(AnnotationError, match=r"1 of the 2 names in .*val\.txt have no mask: z"):
        labels(folder / "ImageSets" / "Segmentation" / "val.txt")


def test_without_a_label_map_masks_hold_ids(folder: Path) -> None:
    (folder / "labelmap.txt").unlink()
    (folder / "SegmentationClass" / "sub" / "y.png").unlink()
    indexed = Image.fromarray(np.where(NUMBERS[0] == 3, 255, NUMBERS[0]).astype(np.uint8), "P")
    indexed.putpalette([*range(256)] * 3)
    indexed.save(folder / "SegmentationClass" / "x.png")
    assert labels(folder) == {"x": np.where(NUMBERS[0] == 3, 255, NUMBERS[0]).tolist()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LABELS.replace("dog", "horse"), r"x\.png has the label 'horse', which pets does not have: wall, cat, dog"),
        (
            LABELS.replace("cat:250,50,83", "cat:250,50,84"),
            r"x\.png holds 1 colours that are not in labelmap\.txt: #fa3253",
        ),
        (LABELS.replace("cat:250,50,83", "cat:61,245,61"), r"labelmap\.txt: cat has the colour of dog"),
        (LABELS.replace("250,50,83", ""), r"labelmap\.txt: expected label:red,green,blue::, got 'cat::head,tail:sit'"),
        ("\xff\x00{", r"labelmap\.txt: expected label:red,green,blue::, got"),
    ],
)
def test_wrong_label_maps_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "labelmap.txt").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        labels(folder)


def test_labels_that_no_mask_shows_need_no_class(folder: Path) -> None:
    (folder / "labelmap.txt").write_text(f"{LABELS}a:b:1,2,3::\n")
    assert set(labels(folder)) == {"x", "y"}


def test_a_mask_without_an_image_is_named(folder: Path) -> None:
    (folder / "JPEGImages" / "x.jpg").unlink()
    with pytest.raises(AnnotationError, match=r"1 of 2 masks have no image: .*x\.png"):
        find_pairs(str(folder), TASK)
