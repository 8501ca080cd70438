from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.forms.mask_folders import IMAGES, MASKS, renamed_folder
from ddpm_seg.data.annotations.load import labelled_pixels, load_annotations
from ddpm_seg.tasks import Task

TASK = Task(name="three", class_names=("a", "b", "c"), palette=((255, 0, 0), (0, 255, 0), (0, 0, 255)))

# How tools and published datasets lay out images and masks: (image, mask), with * for the name of a pair.
LAYOUTS = [
    ("*.png", "*.npy"),  # as published
    ("*.jpg", "*.png"),
    ("*.jpg", "*_mask.png"),  # Roboflow
    ("*.png", "*_mask.png"),
    ("train/*.jpg", "train/*_mask.png"),
    ("*.jpg", "masks/*.png"),
    ("images/*.jpg", "masks/*.png"),
    ("images/*.png", "masks/*_mask.png"),
    ("images/*.jpg", "labels/*.npy"),
    ("images/training/*.jpg", "annotations/training/*.png"),  # ADE20K
    ("img_dir/train/*.jpg", "ann_dir/train/*.png"),  # MMSegmentation
    ("img/*.jpg", "masks_machine/*.png"),  # Supervisely
    ("data/*.jpg", "labels/*.png"),  # FiftyOne
    ("train/images/*.jpg", "train/masks/*.png"),
]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def mask_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (4, 4), dtype=np.uint8)


def write(folder: str, name: str, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    if name.endswith(".npy"):
        np.save(buffer, pixels)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG" if name.endswith(".jpg") else "PNG")
    storage.write_bytes(storage.join(folder, name), buffer.getvalue())


def write_pairs(folder: str, layout: tuple[str, str], names: str = "xyz") -> None:
    for seed, name in enumerate(names):
        write(folder, layout[0].replace("*", name), picture(seed))
        write(folder, layout[1].replace("*", name), mask_of(seed))


@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
def test_every_layout_gives_the_same_pairs(layout: tuple[str, str], tmp_path: Path) -> None:
    write_pairs(str(tmp_path), layout)
    (tmp_path / "README.txt").write_text("about it")
    found = load_annotations(str(tmp_path), image_size=4, task=TASK)
    assert [one.uri for one in found] == [str(tmp_path / layout[0].replace("*", name)) for name in "xyz"]
    for seed, one in enumerate(found):
        np.testing.assert_array_equal(one.label, mask_of(seed))


@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
def test_no_layout_loses_a_mask_or_an_image(layout: tuple[str, str], tmp_path: Path) -> None:
    write_pairs(str(tmp_path), layout)
    (tmp_path / layout[1].replace("*", "y")).unlink()
    with pytest.raises(AnnotationError, match=r"1 of 3 images have no mask: \S*/y\."):
        find_pairs(str(tmp_path), TASK)
    write(str(tmp_path), layout[1].replace("*", "y"), mask_of(1))
    (tmp_path / layout[0].replace("*", "z")).unlink()
    with pytest.raises(AnnotationError, match=r"z(_mask)?\."):
        find_pairs(str(tmp_path), TASK)


def test_splits_beside_each_other_are_all_read_and_one_alone(tmp_path: Path, s3: Callable[[], str]) -> None:
    for root in (str(tmp_path), s3()):
        for split, names in {"train": "ab", "val": "cd"}.items():
            write_pairs(root, (f"{split}/images/*.jpg", f"{split}/masks/*.png"), names)
        assert len(find_pairs(root, TASK)) == 4
        assert [pair.image[-5:] for pair in find_pairs(f"{root}/val", TASK)] == ["c.jpg", "d.jpg"]
        assert [pair.image[-5:] for pair in find_pairs(f"{root}/val/images", TASK)] == ["c.jpg", "d.jpg"]


def test_the_images_of_one_split_find_their_masks(tmp_path: Path) -> None:
    for split, names in {"training": "ab", "validation": "cd"}.items():
        write_pairs(str(tmp_path), (f"images/{split}/*.jpg", f"annotations/{split}/*.png"), names)
    (tmp_path / "annotations" / "validation" / "._c.png").write_bytes(b"a Mac's own")
    found = find_pairs(str(tmp_path / "images" / "validation"), TASK)
    assert [Path(pair.mask).relative_to(tmp_path).as_posix() for pair in found] == [
        "annotations/validation/c.png",
        "annotations/validation/d.png",
    ]


def test_published_pairs_are_read_whatever_else_lies_there(tmp_path: Path) -> None:
    write_pairs(str(tmp_path), ("*.png", "*.npy"))
    for name in ("x_mask.png", "labels/x.png"):
        write(str(tmp_path), name, mask_of(7))
    with pytest.raises(AnnotationError, match=r"2 of 5 images have no mask: \S*labels/x\.png, \S*x_mask\.png"):
        find_pairs(str(tmp_path), TASK)


def test_a_name_that_ends_like_a_mark_is_a_name(tmp_path: Path) -> None:
    write(str(tmp_path), "images/face_mask.jpg", picture(0))
    write(str(tmp_path), "masks/face_mask.png", mask_of(0))
    (pair,) = find_pairs(str(tmp_path), TASK)
    assert pair.image.endswith("images/face_mask.jpg")


def test_black_and_white_masks_need_a_merge(tmp_path: Path) -> None:
    black_and_white = np.where(mask_of(0) > 0, 255, 0).astype(np.uint8)
    for seed, name in enumerate("xy"):
        write(str(tmp_path), f"{name}.jpg", picture(seed))
        write(str(tmp_path), f"{name}_mask.png", black_and_white)
    labels = [one.label for one in load_annotations(str(tmp_path), image_size=4, task=TASK)]
    with pytest.raises(AnnotationError, match=r"only 'a'.* merge: \{0: background, 255: object\}"):
        labelled_pixels(labels, TASK)
    merged = dataclasses.replace(TASK, merge=(("0", "a"), ("255", "c")))
    for one in load_annotations(str(tmp_path), image_size=4, task=merged):
        np.testing.assert_array_equal(one.label, np.where(black_and_white > 0, 2, 0))


@pytest.mark.parametrize("layout", [("train/*.jpg", "train/*_mask.png"), ("images/*.jpg", "masks/*.png")])
def test_values_are_matched_by_the_names_that_a_file_gives_them(layout: tuple[str, str], tmp_path: Path) -> None:
    """Roboflow numbers the classes by the alphabet, below the background."""
    write_pairs(str(tmp_path), layout)
    expected = [one.label for one in load_annotations(str(tmp_path), image_size=4, task=TASK)]
    for mask, seed in zip(sorted(tmp_path.glob(layout[1])), range(3), strict=True):
        Image.fromarray(np.array([7, 2, 1], np.uint8)[mask_of(seed)]).save(mask)
    classes = (tmp_path / layout[1]).parent / "_classes.csv"
    classes.write_text("Pixel Value, Class\n0, background\n1, c\n2, b\n7, a\n")
    found = [one.label for one in load_annotations(str(tmp_path), image_size=4, task=TASK)]
    assert np.array_equal(found, expected)
    classes.write_text("Pixel Value, Class\n0, other\n1, background\n2, b\n7, a\n")
    found = [one.label for one in load_annotations(str(tmp_path), image_size=4, task=TASK)]
    assert np.array_equal(found, np.where(np.array(expected) == 2, 255, expected))  # background is no class here
    for text, message in (
        ("Pixel Value, Class\n1, c\n2, b\n", "holds the value 7, which _classes.csv beside it does not name"),
        ("Pixel Value, Class\n1, c\n2, b\n7, door\n", "has the label 'door', which three does not have: a, b, c"),
        ("Pixel Value, Class\n1, c\n1, b\n", "1 is both 'c' and 'b'"),
        ("Pixel Value, Class\none, c\n", "expected value, label; got 'one, c'"),
        (f"Pixel Value, Class\n{'1' * 5000}, c\n", "expected value, label; got '111"),
        (f"Pixel Value, Class\n1, {'c' * 200_000}\n", "_classes.csv: field larger than field limit"),
    ):
        classes.write_text(text)
        with pytest.raises(AnnotationError, match=message):
            load_annotations(str(tmp_path), image_size=4, task=TASK)
    classes.write_text("filename, a, b, c\nx.jpg, 1, 0, 0\n")  # a list of images: the values are class ids again
    with pytest.raises(AnnotationError, match="7"):
        load_annotations(str(tmp_path), image_size=4, task=TASK)


def test_two_masks_of_an_image_are_refused(tmp_path: Path) -> None:
    write_pairs(str(tmp_path), ("images/*.jpg", "masks/*.png"))
    write(str(tmp_path), "masks/y_mask.png", mask_of(7))
    with pytest.raises(AnnotationError, match=r"y\.png, \S*y_mask\.png are masks of the same image"):
        find_pairs(str(tmp_path), TASK)


def test_images_alone_are_told_what_is_missing(tmp_path: Path) -> None:
    write(str(tmp_path), "images/x.jpg", picture(0))
    with pytest.raises(AnnotationError, match=r"1 of 1 images have no mask: .* or the folders images/ and masks/"):
        find_pairs(str(tmp_path), TASK)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/images/b", "/a/masks/b"),
        ("/images/images/x.jpg", "/images/masks/x.jpg"),
        ("/a/pictures", None),
        ("s3://images/a", None),
        ("s3://images/images", "s3://images/masks"),
        ("s3://data/set/img/train", "s3://data/set/masks/train"),
    ],
)
def test_a_bucket_is_no_folder(uri: str, expected: str | None) -> None:
    assert renamed_folder(uri, IMAGES, MASKS[0]) == expected
