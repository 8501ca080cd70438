from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.data.annotations.pair import UNCOVERED
from ddpm_seg.tasks import UNLABELLED, Task

SIZE = 64
TASK = Task(name="street", class_names=("road", "car", "wheel"), palette=((0, 0, 0), (9, 0, 0), (0, 9, 0)))


def shape(label: str, kind: str | None, points: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def masked(label: str, left: int, top: int, pixels: np.ndarray) -> dict[str, Any]:
    """As LabelMe stores what its AI tools found: a PNG, and the first and the last pixel of its box."""
    sink = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(sink, "PNG")
    box = [[left, top], [left + pixels.shape[1] - 1, top + pixels.shape[0] - 1]]
    return shape(label, "mask", box, mask=base64.b64encode(sink.getvalue()).decode())


def write(folder: Path, name: str, shapes: list[dict[str, Any]], image: str | None = None, **about: Any) -> Path:
    """The JSON of LabelMe, and its image beside it unless `image` says that it is elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    if image is None:
        Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(folder / f"{name}.png")
    content = {"version": "5.7.0", "flags": {}, "shapes": shapes, "imagePath": image or f"{name}.png"}
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**content, "imageData": None, "imageHeight": SIZE, "imageWidth": SIZE, **about}))
    return file


def drawn(uri: Path) -> np.ndarray:
    (pair,) = find_pairs(str(uri), TASK)
    return pair.read_mask(SIZE, SIZE)


def plain(shapes: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The mask as LabelMe's own conversion draws it, with Pillow, and which pixels lie on no outline."""
    label, away = np.full((SIZE, SIZE), UNCOVERED), Image.new("1", (SIZE, SIZE), 1)
    for one in shapes:
        part, corners = Image.new("1", (SIZE, SIZE)), [tuple(point) for point in one["points"]]
        if one["shape_type"] == "circle":
            (x, y), edge = corners
            radius = math.dist((x, y), edge)
            ImageDraw.Draw(part).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
            turns = np.linspace(0, 2 * np.pi, 200)
            corners = [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
        else:
            ImageDraw.Draw(part).polygon(corners, fill=1)
        label[np.asarray(part)] = TASK.ids[one["label"]]
        ImageDraw.Draw(away).line([*corners, corners[0]], fill=0, width=5)
    return label, np.asarray(away)


@pytest.mark.parametrize("seed", range(8))
def test_shapes_are_drawn_as_labelme_draws_them(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    shapes = []
    for _ in range(3):
        kind, name = generator.choice(["polygon", "circle"]), generator.choice(TASK.class_names)
        middle, reach = generator.uniform(20, 44, 2), generator.uniform(8, 18)
        turns = np.sort(generator.uniform(0, 2 * np.pi, 1 if kind == "circle" else 7))
        around = middle + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points = [middle.tolist(), *around.tolist()] if kind == "circle" else around.tolist()
        shapes.append(shape(str(name), str(kind), points))
    expected, away = plain(shapes)
    found = drawn(write(tmp_path, "a", shapes))
    assert np.array_equal(found[away], expected[away])
    assert (found != UNCOVERED).sum() > 100


def test_masks_lie_where_their_box_is_and_later_shapes_in_front(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((20, 10)) < 0.5
    square = [[0, 0], [40, 0], [40, 40], [0, 40]]
    found = drawn(write(tmp_path, "a", [shape("road", None, square), masked("wheel", 30, 35, pixels)]))
    expected = np.full((SIZE, SIZE), UNCOVERED)
    expected[:40, :40] = 0
    expected[35:55, 30:40][pixels] = 2
    assert np.array_equal(found, expected)


def test_rectangles_and_ignored_objects_have_no_class_and_other_shapes_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = [
        shape("car", "polygon", [[0, 0], [8, 0], [8, 8], [0, 8]]),
        shape("car", "rectangle", [[60, 50], [40, 40]]),
        shape("__ignore__", "polygon", [[4, 0], [8, 0], [8, 8], [4, 8]]),
        shape("car", "linestrip", [[0, 0], [9, 9], [20, 0]]),
        shape("car", "polygon", [[0, 0], [9, 9]]),
    ]
    expected = np.full((SIZE, SIZE), UNCOVERED)
    expected[40:50, 40:60] = UNLABELLED
    expected[:8, :8] = 1
    expected[:8, 4:8] = UNLABELLED
    assert np.array_equal(drawn(write(tmp_path, "a", shapes)), expected)
    for message in (
        "1 shapes of kind linestrip are left out",
        "1 rectangles (their pixels have no class) are left out",
        "1 polygons of fewer than three points are left out",
    ):
        assert message in caplog.text


def test_a_folder_in_which_some_images_are_annotated(tmp_path: Path) -> None:
    triangle = [shape("car", "polygon", [[0, 0], [50, 0], [0, 50]])]
    for name in ("b", "a"):
        write(tmp_path, name, triangle)
    write(tmp_path / "deeper", "c", triangle)
    write(tmp_path, "looked at", [])
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "not yet.png")
    options = AnnotationOptions(uncovered="road")
    found = load_annotations(str(tmp_path), image_size=SIZE, task=TASK, options=options)
    assert [Path(one.uri).name for one in found] == ["a.png", "b.png", "c.png"]
    assert all(set(np.unique(one.label)) == {0, 1} for one in found)


@pytest.mark.parametrize("image", ["../images/a.png", "..\\images\\a.png"])
def test_files_in_a_folder_of_their_own(tmp_path: Path, image: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "images" / "a.png")
    write(tmp_path / "labels", "a", [shape("car", "polygon", [[0, 0], [50, 0], [0, 50]])], image)
    (pair,) = find_pairs(str(tmp_path / "labels"), TASK)
    assert Image.open(io.BytesIO(pair.read_image())).size == (SIZE, SIZE)


@pytest.mark.parametrize(
    ("shapes", "about", "message"),
    [
        ([], {}, r"a\.json holds no polygons, circles or masks"),
        ([shape("tree", "polygon", [[0, 0], [9, 0], [0, 9]])], {}, "label 'tree', which street does not have"),
        ([shape("car", "polygon", [[0, 0, 1], [9, 0], [0, 9]])], {}, r"is not LabelMe's JSON .*shapes\.0\.points"),
        ([shape("car", "polygon", [[0, 0], [9, 0], [0, math.nan]])], {}, "not a list of finite numbers"),
        ([shape("car", "circle", [[0, 0]])], {}, "a circle of 1 points"),
        ([shape("car", "mask", [[0, 0], [3, 3]], mask="#")], {}, "not base64"),
        ([shape("car", "mask", [[0, 0], [3, 3]])], {}, "PNG"),
        ([{**masked("car", 0, 0, np.ones((4, 4))), "points": [[0, 0], [1e300, 3]]}], {}, "aspect ratios differ"),
        ([masked("car", 60, 60, np.ones((9, 9)))], {}, "reaches beyond its image"),
        ([shape("car", "polygon", [[0, 0], [9, 0], [0, 9]])], {"imageHeight": 32}, "aspect ratios differ"),
        ([shape("car", "polygon", [[0, 0], [9, 0], [0, 9]])], {"imagePath": "b.png"}, r"found no image b\.png"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, shapes: list[dict[str, Any]], about: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, "a", shapes, **about)
    with pytest.raises(AnnotationError, match=message) as caught:
        load_annotations(str(file), image_size=SIZE, task=TASK)
    assert "\n" not in str(caught.value)
