"""Datasets in the form of YOLO's segmentation models: https://docs.ultralytics.com/datasets/segment/"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.tasks import Task

TASK = Task(name="pets", class_names=("dog", "cat"), palette=((1, 2, 3), (4, 5, 6)), ignore_label=None)
# Eight pixels square: the left half is a cat, the lower half a dog in front of it, and the first pixel is in a box.
TEXT = "1 0 0 0.5 0 0.5 1 0 1\n0 0 0.5 1 0.5 1 1 0 1\n\n0 0.0625 0.0625 0.125 0.125\n"
MASK = np.full((8, 8), 255)
MASK[:, :4] = 1
MASK[4:] = 0
NAMES = "names:\n  0: dog\n  1: cat\n"


def dataset(root: Path, images: str, labels: str, text: str = TEXT, names: str | None = NAMES) -> Path:
    for folder in (images, labels):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / images / "x.png")
    (root / labels / "x.txt").write_text(text)
    if names is not None:
        (root / "data.yaml").write_text(names)
    return root


def labels(uri: Path, task: Task = TASK, **options: str) -> list[list[list[int]]]:
    found = load_annotations(str(uri), image_size=8, task=task, options=AnnotationOptions(**options))
    return [one.label.tolist() for one in found]


@pytest.mark.parametrize(
    ("images", "texts", "split"),
    [
        ("images/val", "labels/val", "images/val"),
        ("valid/images", "valid/labels", "valid"),
        ("images", "labels", "images"),
    ],
)
def test_a_dataset_and_a_split_of_it(tmp_path: Path, images: str, texts: str, split: str) -> None:
    dataset(tmp_path, images, texts)
    assert labels(tmp_path) == labels(tmp_path / split) == [MASK.tolist()]
    assert labels(tmp_path, uncovered="dog") == [np.where(MASK == 255, 0, MASK).tolist()]


def test_a_box_hides_what_is_not_covered(tmp_path: Path) -> None:
    dataset(tmp_path, "images", "labels", "0 0 0.5 1 0.5 1 1 0 1\n1 0.5 0.5 1 1")
    expected = np.full((8, 8), 255)
    expected[4:] = 0
    assert labels(tmp_path, uncovered="cat") == [expected.tolist()]


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    dataset(tmp_path, "images", "labels", names="train: images\nnames: [cat, no]\n")
    task = Task(name="t", class_names=("no", "cat"), palette=TASK.palette, ignore_label=None)
    assert labels(tmp_path, task) == [np.where(MASK == 255, 255, 1 - MASK).tolist()]
    merged = Task(
        name="t",
        class_names=("a", "pet"),
        palette=TASK.palette,
        ignore_label=None,
        merge=(("cat", "pet"), ("no", "pet")),
    )
    assert labels(tmp_path, merged) == [np.where(MASK == 255, 255, 1).tolist()]


def test_without_names_numbers_are_class_ids(tmp_path: Path) -> None:
    assert labels(dataset(tmp_path, "images", "labels", names=None)) == [MASK.tolist()]


def test_images_without_a_text_file_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset(tmp_path, "images", "labels")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "y.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "empty.jpg")
    (tmp_path / "labels" / "empty.txt").touch()
    assert labels(tmp_path) == [np.full((8, 8), 255).tolist(), MASK.tolist()]
    assert "1 images without a text file are left out" in caplog.text
    assert "1 boxes are left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("2 0 0 1 0 1 1", NAMES, r"x\.txt, line 1: the class '2', which the dataset's YAML file does not name"),
        ("2 0 0 1 0 1 1", None, r"x\.txt has the label '2', which pets does not have"),
        ("0 0 0 1 0 1 1", "names: [horse]", r"x\.txt has the label 'horse', which pets does not have"),
        ("0 0 0 1 0 1", NAMES, r"x\.txt, line 1: expected a class's number, and x and y of at least three corners"),
        ("\n0 0 0 nan 0 1 1", NAMES, r"x\.txt, line 2: expected a class's number"),
        ("0 0 0 90 0 1 1", NAMES, r"x\.txt holds an outline at \(720, 0\), far outside of an image of 8 x 8"),
        ("0 0.5 0.5 1 1", NAMES, r"the 1 text files in .* hold no polygons"),
        ("0 0 0 1 0 1 1", "nc: 2", r"data\.yaml: expected names, a list"),
        ("0 0 0 1 0 1 1", "names: [", r"data\.yaml: it is not YAML"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, names: str | None, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        labels(dataset(tmp_path, "images", "labels", text, names))


def test_a_folder_above_may_be_closed_but_not_the_dataset_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bucket answers whose listing is not allowed."""
    dataset(tmp_path / "own", "images", "labels", names=None)
    read, closed = storage.read_bytes, tmp_path

    def denied(uri: str, **options: int) -> bytes:
        if Path(uri).parent == closed:
            raise PermissionError(13, "Access Denied", uri)
        return read(uri, **options)

    monkeypatch.setattr(storage, "read_bytes", denied)
    assert labels(tmp_path / "own") == [MASK.tolist()]
    closed = tmp_path / "own"
    with pytest.raises(PermissionError):
        labels(tmp_path / "own")


def test_the_file_of_names_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"data\.yaml holds no annotations; for a YOLO dataset, give its folder"):
        labels(dataset(tmp_path, "images", "labels") / "data.yaml")


def test_masks_beside_text_files_are_read_first(tmp_path: Path) -> None:
    dataset(tmp_path, "images", "labels", "0 0 0 1 0 1 1")
    (tmp_path / "masks").mkdir()
    Image.fromarray(MASK.astype(np.uint8)).save(tmp_path / "masks" / "x.png")
    assert labels(tmp_path) == [MASK.tolist()]
