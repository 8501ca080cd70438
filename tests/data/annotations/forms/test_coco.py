"""Reading COCO's JSON, written by hand from known masks."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as codec

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
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


def test_a_panoptic_png_may_be_composed_or_decomposed(tmp_path: Path) -> None:
    images, name = write_images(tmp_path, "a.png"), "café.png"
    (tmp_path / "panoptic").mkdir()
    Image.new("RGB", (8, 8), (5, 1, 0)).save(tmp_path / "panoptic" / unicodedata.normalize("NFD", name))
    about = {"image_id": 10, "file_name": name, "segments_info": [{"id": 261, "category_id": 7}]}
    (annotation,) = load_annotations(write_json(tmp_path / "panoptic.json", images, [about]), image_size=8, task=TASK)
    assert (annotation.label == 1).all()
    with pytest.raises(AnnotationError, match="cannot be read: No such file"):
        load_annotations(
            write_json(tmp_path / "panoptic.json", images, [{**about, "file_name": "cafè.png"}]),
            image_size=8,
            task=TASK,
        )


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    images = write_images(tmp_path, "a.png")
    uri = write_json(tmp_path / "x.json", images, [])
    with pytest.raises(AnnotationError, match="holds no annotated images"):
        load_annotations(uri, image_size=8, task=TASK)
    fewer = Task(name="fewer", class_names=("wall", "cat"), palette=((9, 9, 9), (255, 0, 0)))
    tail = [{"image_id": 10, "category_id": 3, "segmentation": polygon(EXPECTED == 2)}]
    with pytest.raises(AnnotationError, match="categories that fewer does not have: tail; expected some of wall, cat"):
        load_annotations(write_json(tmp_path / "x.json", images, tail), image_size=8, task=fewer)
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(AnnotationError, match=r"x\.json is not COCO's JSON"):
        load_annotations(uri, image_size=8, task=TASK)
    broken = [{"image_id": 10, "category_id": 7, "segmentation": {"size": [8, 8]}}]
    with pytest.raises(AnnotationError, match=r"x\.json, a\.png holds run lengths that are neither .*: None"):
        load_annotations(write_json(tmp_path / "x.json", images, broken), image_size=8, task=TASK)


def objects(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"image_id": 10, "category_id": 7, **entry} for entry in entries]


CAT = polygon(EXPECTED != 255)


def test_a_category_that_no_object_uses_may_be_any(tmp_path: Path) -> None:
    images, two = (
        write_images(tmp_path, "a.png"),
        Task(name="two", class_names=("wall", "cat"), palette=TASK.palette[:2]),
    )
    uri = write_json(tmp_path / "x.json", images, objects({"segmentation": CAT}))
    (annotation,) = load_annotations(uri, image_size=8, task=two)
    np.testing.assert_array_equal(annotation.label, np.where(EXPECTED == 255, 255, 1))


def test_uncovered_pixels_may_have_a_class(tmp_path: Path) -> None:
    images = write_images(tmp_path, "a.png")
    uri = write_json(tmp_path / "x.json", images, objects({"segmentation": CAT}))
    options = AnnotationOptions(uncovered="wall")
    (annotation,) = load_annotations(uri, image_size=8, task=TASK, options=options)
    np.testing.assert_array_equal(annotation.label, np.where(EXPECTED == 255, 0, 1))
    with pytest.raises(AnnotationError, match="--uncovered 'walls' is not a class of pets; its classes are wall, cat"):
        load_annotations(uri, image_size=8, task=TASK, options=AnnotationOptions(uncovered="walls"))
    # A square image's canvas has no padding; that of another has, and it stays without a class.
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    wide = write_json(
        tmp_path / "w.json", [{"id": 10, "file_name": "a.png"}], objects({"segmentation": [[0, 0, 4, 0, 4, 4]]})
    )
    (annotation,) = load_annotations(wide, image_size=8, task=TASK, options=options)
    assert set(annotation.placement.crop(annotation.label).reshape(-1).tolist()) == {0, 1}
    assert (annotation.label == 255).sum() == 32


def test_an_object_of_a_box_alone_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = write_images(tmp_path, "a.png")
    boxes = [{"segmentation": [], "bbox": [0, 0, 2, 8]}, {"bbox": [6, 0, 2, 1]}, {"segmentation": None}, {"bbox": None}]
    uri = write_json(tmp_path / "x.json", images, objects({"segmentation": CAT}, *boxes))
    (annotation,) = load_annotations(uri, image_size=8, task=TASK, options=AnnotationOptions(uncovered="wall"))
    expected = np.where(EXPECTED == 255, 0, 1)
    expected[:, 0], expected[0, :2], expected[7, :2], expected[0, 6:] = 255, 255, 255, 255
    np.testing.assert_array_equal(annotation.label, expected)
    assert "4 objects without an outline" in caplog.text


POINTS = [[1, 1], [7, 1], [7, 7], [1, 7]]


def test_an_outline_may_be_a_list_of_points(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = write_images(tmp_path, "a.png")
    for outline in (POINTS, POINTS[:3]):
        flat = [[value for point in outline for value in point]]
        labels = [
            load_annotations(
                write_json(tmp_path / "x.json", images, objects({"segmentation": one})),
                image_size=8,
                task=TASK,
                options=AnnotationOptions(uncovered="wall"),
            )[0].label
            for one in (outline, flat)
        ]
        assert 1 in labels[0]
        np.testing.assert_array_equal(labels[0], labels[1])
    assert "left out" not in caplog.text
    with pytest.raises(AnnotationError, match="not a list of finite numbers"):
        load_annotations(
            write_json(tmp_path / "x.json", images, objects({"segmentation": [POINTS]})), image_size=8, task=TASK
        )


@pytest.mark.parametrize(
    "line", [[[4, 4, 8, 8]], [[4, 4], [8, 8]], [4, 4, 8, 8], [[4, 4]], [[], []], [[4, 4, 8, 4]] * 2]
)
def test_an_object_of_lines_alone_is_one_without_an_outline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: Any
) -> None:
    images = write_images(tmp_path, "a.png")
    annotations = objects({"segmentation": CAT}, {"segmentation": line, "bbox": [0, 0, 1, 1]})
    uri = write_json(tmp_path / "x.json", images, annotations)
    (annotation,) = load_annotations(uri, image_size=8, task=TASK, options=AnnotationOptions(uncovered="wall"))
    assert annotation.label[0, 0] == 255
    assert annotation.label[0, 1] == 0
    assert "1 objects without an outline" in caplog.text


def test_a_line_beside_an_outline_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = write_images(tmp_path, "a.png")
    annotations = objects({"segmentation": [*CAT, [0, 0, 8, 0], [0, 0], []]})
    (annotation,) = load_annotations(write_json(tmp_path / "x.json", images, annotations), image_size=8, task=TASK)
    np.testing.assert_array_equal(annotation.label, np.where(EXPECTED == 255, 255, 1))
    assert "2 parts of objects with fewer than three points" in caplog.text
    assert "without an outline" not in caplog.text


def test_other_tools_shapes_are_read(tmp_path: Path) -> None:
    """COCO Annotator's: true for 1, no size, strings for ids, a flat polygon, a path, and a byte order mark."""
    write_images(tmp_path / "JPEGImages", "a.png")
    content = {
        "images": [{"id": "10", "file_name": "a.png", "path": "JPEGImages/a.png", "license": None}],
        "annotations": [{"image_id": "10", "category_id": 7, "segmentation": CAT[0], "iscrowd": True}],
        "categories": CATEGORIES,
        "info": None,
    }
    (tmp_path / "x.json").write_text(json.dumps(content), encoding="utf-8-sig")
    (annotation,) = load_annotations(str(tmp_path / "x.json"), image_size=8, task=TASK)
    np.testing.assert_array_equal(annotation.label, np.where(EXPECTED == 255, 255, 1))


@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
def test_an_id_may_be_a_number_here_and_text_there(tmp_path: Path, where: str) -> None:
    content: dict[str, Any] = {
        "images": write_images(tmp_path, "a.png"),
        "annotations": objects({"segmentation": CAT}),
        "categories": CATEGORIES,
    }
    content[where] = [{k: str(v) if k.endswith("id") else v for k, v in one.items()} for one in content[where]]
    (tmp_path / "x.json").write_text(json.dumps(content))
    (annotation,) = load_annotations(str(tmp_path / "x.json"), image_size=8, task=TASK)
    np.testing.assert_array_equal(annotation.label, np.where(EXPECTED == 255, 255, 1))


def test_everything_that_is_wrong_is_named_in_one_message(tmp_path: Path) -> None:
    images = write_images(tmp_path, "a.png", "b.png", "c.png", "d.png")
    for name in "bcd":
        (tmp_path / f"{name}.png").unlink()
    annotations = objects(
        {"segmentation": [[0, 0, 1e9, 0, 5, 5]]}, *({"image_id": 11 + i, "segmentation": CAT} for i in range(3))
    )
    with pytest.raises(AnnotationError) as raised:
        load_annotations(write_json(tmp_path / "x.json", images, annotations), image_size=8, task=TASK)
    lines = str(raised.value).splitlines()
    assert lines[0] == "4 of 4 annotated images cannot be used:"
    assert "x.json, a.png holds an outline at (1e+09, 0), far outside of an image of 8 x 8" in lines[1]
    for line, name in zip(lines[2:], "bcd", strict=True):
        assert f"x.json, {name}.png: found no image {name}.png in {tmp_path}; give its folder with --image-root" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "images: input should be a valid list"),
        ({"annotations": None}, "annotations: input should be a valid list"),
        ({"annotations": {"a": 1}}, "annotations: input should be a valid list"),
        ({"categories": [{"id": 7}]}, r"categories\.0\.name: field required"),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, "two categories with the id 7"),
        ({"images": [{"id": 10}]}, r"images\.0\.file_name: field required"),
        ({"images": [{"id": 10, "file_name": None}]}, r"images\.0\.file_name: input should be a valid string"),
        ({"images": [{"id": 10, "file_name": "a.png", "height": 1e300}]}, r"images\.0\.height"),
        ({"images": [{"id": 10, "file_name": "a.png", "height": 10**5, "width": 10**5}]}, "is 100000 x 100000"),
        ({"images": [{"id": 10, "file_name": "a.png", "height": -8, "width": -8}]}, "is -8 x -8"),
        ({"images": [{"id": 10, "file_name": "a.png", "height": 8, "width": 4}]}, "the aspect ratios differ"),
        ({"images": [{"id": 10, "file_name": "a.png"}] * 2}, "two images with the id 10"),
        ({"images": [{"id": 10, "file_name": "a.png"}, {"id": 11, "file_name": "./a.png"}]}, "more than once"),
        ({"annotations": [{"category_id": 7}]}, r"annotations\.0\.image_id: field required"),
        ({"annotations": [3, 4]}, r"annotations\.0: .*, and 1 more problems"),
        ({"annotations": objects({"category_id": None, "segmentation": CAT})}, "unknown category None"),
        ({"annotations": objects({"category_id": 8, "segmentation": CAT})}, "unknown category 8"),
        ({"annotations": objects({"segmentation": "PPYo"})}, "segmentation is str, expected polygons or run lengths"),
        ({"annotations": objects({"segmentation": 7})}, "segmentation is int"),
        ({"annotations": objects({"segmentation": [None]})}, "not a list of finite numbers"),
        ({"annotations": objects({"segmentation": [[None] * 6]})}, "not a list of finite numbers"),
        ({"annotations": objects({"segmentation": {"counts": [64]}})}, "of size None"),
        ({"annotations": objects({"segments_info": []})}, "panoptic annotations without file_name"),
        ({"annotations": objects({"segments_info": [{"id": 1}]})}, r"segments_info\.0\.category_id: field required"),
        ({"annotations": objects({"segments_info": [], "file_name": "gone.png"})}, "cannot be read: No such file"),
        ({"annotations": objects({"segments_info": [], "file_name": "../../a.png"})}, "names the file"),
        ({"annotations": objects({"segments_info": [], "file_name": "/etc/passwd"})}, "names the file"),
    ],
)
def test_a_broken_part_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    images = write_images(tmp_path, "a.png")
    annotations = objects({"segmentation": CAT}, {"image_id": 11, "segmentation": CAT})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **change}
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message) as raised:
        load_annotations(str(tmp_path / "x.json"), image_size=8, task=TASK)
    assert "\n" not in str(raised.value)


def test_deep_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(AnnotationError, match=r"x\.json is (nested too deeply|not JSON)"):
        load_annotations(str(tmp_path / "x.json"), image_size=8, task=TASK)
