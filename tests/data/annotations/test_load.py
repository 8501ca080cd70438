from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.load import (
    AnnotationError,
    drop_small_classes,
    labelled_pixels,
    load_annotations,
    min_class_pixels,
    resize_nearest,
)
from ddpm_seg.data.canvas import fit
from ddpm_seg.tasks import UNLABELLED, Task

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
THREE = Task(name="three", class_names=("a", "b", "c"), palette=(RED, GREEN, BLUE), ignore_label=None)


def write_pair(folder: Path, name: str, mask: np.ndarray, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Writes NAME (an image of `size`, height and width, by default the mask's) and its mask; returns the image."""
    height, width = size or mask.shape[:2]
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / name)
    np.save((folder / name).with_suffix(".npy"), mask)
    return image


def halves(height: int = 16, width: int = 16, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros((height, width), dtype=dtype)
    mask[height // 2 :] = 2
    return mask


def test_reads_pairs_of_any_image_format_sorted_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_pair(tmp_path, "b.JPG", halves())
    write_pair(tmp_path / "sub", "a.b.png", halves(dtype=np.int64))
    write_pair(tmp_path, "a.png", halves())
    (tmp_path / "notes.txt").write_text("not an annotation")
    annotations = load_annotations(str(tmp_path), image_size=8, task=THREE)
    assert [Path(annotation.uri).name for annotation in annotations] == ["a.png", "b.JPG", "a.b.png"]
    for annotation in annotations:
        np.testing.assert_array_equal(annotation.label, halves(8, 8))
    assert len(load_annotations(str(tmp_path), image_size=8, task=THREE, limit=2)) == 2


def test_square_image_is_prepared_as_published(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).integers(0, 3, (24, 24), dtype=np.uint8)
    image = write_pair(tmp_path, "x.png", mask, size=(40, 40))
    (annotation,) = load_annotations(str(tmp_path), image_size=16, task=THREE)
    np.testing.assert_array_equal(annotation.image, fit(image, 16, "letterbox")[0])
    # OpenCV's rule for 24 to 16: every target index times 1.5, rounded down.
    chosen = [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22]
    np.testing.assert_array_equal(annotation.label, mask[np.ix_(chosen, chosen)])


def test_mask_follows_its_image_into_the_letterbox(tmp_path: Path) -> None:
    write_pair(tmp_path, "wide.png", halves(10, 20), size=(20, 40))
    (annotation,) = load_annotations(str(tmp_path), image_size=16, task=THREE)
    placement = annotation.placement
    assert (placement.width, placement.height) == (16, 8)
    np.testing.assert_array_equal(placement.crop(annotation.label), halves(8, 16))
    assert (annotation.label == UNLABELLED).sum() == 16 * 16 - 16 * 8


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        # As cv2.resize(INTER_NEAREST) answers; 5 to 3 and 7 to 4 differ from the pixel-centre rule.
        (5, 3, [0, 1, 3]),
        (7, 4, [0, 1, 3, 5]),
        (3, 7, [0, 0, 0, 1, 1, 2, 2]),
        (4, 4, [0, 1, 2, 3]),
        (1, 3, [0, 0, 0]),
    ],
)
def test_nearest_is_opencvs(source: int, target: int, expected: list[int]) -> None:
    row = np.arange(source, dtype=np.uint8)
    assert resize_nearest(np.stack([row, row]), 1, target)[0].tolist() == expected
    assert resize_nearest(np.stack([row, row], axis=1), target, 1)[:, 0].tolist() == expected


def test_classes_under_twenty_pixels_of_a_published_image_are_left_out_there() -> None:
    label = np.zeros((256, 256), dtype=np.uint8)
    label[0, :19], label[1, :20] = 1, 2
    kept = drop_small_classes(label)
    assert (kept[0, :19] == UNLABELLED).all()
    assert (kept == UNLABELLED).sum() == 19
    more = label.copy()
    more[0, 19] = 1  # the other image has 20 of class 1
    positions, classes = labelled_pixels([label, more], THREE)
    assert np.bincount(classes).tolist() == [2 * 256 * 256 - 19 - 60, 20, 40]
    np.testing.assert_array_equal(np.concatenate([label.flat, more.flat])[positions], classes)
    assert positions[classes == 1].min() >= 256 * 256


def test_what_a_class_needs_is_the_same_share_of_any_image() -> None:
    assert [min_class_pixels(size) for size in (16, 64, 128, 256, 512)] == [1, 2, 5, 20, 80]


def test_the_ignored_class_is_not_trained_on() -> None:
    task = Task(name="t", class_names=("none", "b", "c"), palette=(RED, GREEN, BLUE), ignore_label=0)
    label = np.zeros((10, 10), dtype=np.uint8)
    label[2:5], label[5:8], label[8:] = 1, 2, UNLABELLED
    positions, classes = labelled_pixels([label], task)
    assert positions.tolist() == list(range(20, 80))
    assert classes.tolist() == [1] * 30 + [2] * 30


@pytest.mark.parametrize("label", [np.zeros((8, 8), np.uint8), np.full((8, 8), UNLABELLED, np.uint8)])
def test_one_class_only_is_refused(label: np.ndarray) -> None:
    with pytest.raises(AnnotationError, match="annotate at least two"):
        labelled_pixels([label], THREE)


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[{}]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (halves()[None], r"x\.npy has shape \(1, 16, 16\), expected \(height, width\)"),
        (np.zeros((0, 4), np.uint8), r"x\.npy has shape \(0, 4\)"),
        (halves().astype(np.float32), r"x\.npy has dtype float32, expected integer"),
        (halves(16, 20), r"x\.npy is 20 x 16 .*its image 16 x 16: the aspect ratios differ"),
        (
            halves() + np.uint8(1),
            r"x\.npy holds class ids that three does not have: 3; expected 0\.\.2, or 255 for",
        ),
        (halves().astype(np.int32) - 1, r"three does not have: -1;"),
        (np.full((16, 16), 256 + 1, np.int64), r"three does not have: 257;"),
        (b"", r"x\.npy is not a plain NumPy array file"),
        (b"\x93NUMPY\x01\x00", r"x\.npy is not a plain NumPy array file"),
        (object_array(), r"x\.npy is not a plain NumPy array file"),
    ],
)
def test_a_wrong_mask_is_named(tmp_path: Path, mask: np.ndarray | bytes, message: str) -> None:
    write_pair(tmp_path, "x.png", halves())
    if isinstance(mask, bytes):
        (tmp_path / "x.npy").write_bytes(mask)
    else:
        np.save(tmp_path / "x.npy", mask)
    with pytest.raises(AnnotationError, match=message):
        load_annotations(str(tmp_path), image_size=8, task=THREE)


@pytest.mark.parametrize("shape", [(10**6, 10**6), (16, 10**12), (2**40, 2**40)])
def test_a_mask_that_declares_more_than_its_image_is_never_allocated(tmp_path: Path, shape: tuple[int, int]) -> None:
    write_pair(tmp_path, "x.png", halves())
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with pytest.raises(AnnotationError, match=r"x\.npy is \d+ x \d+ \(width x height\); expected 1 to 100000000"):
        load_annotations(str(tmp_path), image_size=8, task=THREE)


def test_a_mask_cut_short_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "x.png", halves())
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-5])
    with pytest.raises(AnnotationError, match=r"x\.npy is not a plain NumPy array file"):
        load_annotations(str(tmp_path), image_size=8, task=THREE)


def test_pixels_without_a_class_are_accepted_under_any_task(tmp_path: Path) -> None:
    mask = halves()
    mask[0] = UNLABELLED
    write_pair(tmp_path, "x.png", mask)
    for ignored in (None, 255, 0):
        task = dataclasses.replace(THREE, ignore_label=ignored)
        (annotation,) = load_annotations(str(tmp_path), image_size=16, task=task)
        np.testing.assert_array_equal(annotation.label, mask)
    positions, classes = labelled_pixels([annotation.label], THREE)
    assert positions.min() == 16
    assert set(classes) == {0, 2}


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    for index in range(54):
        write_pair(tmp_path, f"{index:02}.png", halves())
    for index in range(52):
        np.save(tmp_path / f"{index:02}.npy", halves() + np.uint8(index + 1))
    with pytest.raises(AnnotationError) as raised:
        load_annotations(str(tmp_path), image_size=8, task=THREE)
    lines = str(raised.value).splitlines()
    assert lines[0] == "52 of 54 annotated images cannot be used:"
    assert [line.count(f"{index:02}.npy holds class ids") for index, line in enumerate(lines[1:51])] == [1] * 50
    assert lines[51:] == ["  and 2 more"]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "x.png", halves())
    (tmp_path / "x.png").write_bytes(b"\x89PNG but not for long")
    with pytest.raises(AnnotationError, match=r"x\.png: "):
        load_annotations(str(tmp_path), image_size=8, task=THREE)
