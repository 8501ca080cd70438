from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.forms.brush_rle import decode_brush, encode_brush
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.data.annotations.pair import UNCOVERED
from ddpm_seg.data.exports.label_studio import write_label_studio
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.model.bundle.files import ASSETS
from ddpm_seg.tasks import TASKS
from tests.data.exports.drawn import TASK

SIZE = 16
MASK = np.arange(SIZE, dtype=np.uint8)[:, None].repeat(SIZE, axis=1) // 8  # class 0 over class 1


@pytest.fixture
def tasks(tmp_path: Path) -> list[dict[str, Any]]:
    """Two exported pictures."""
    made = []
    for number in range(2):
        uri = tmp_path / f"{number}.png"
        Image.fromarray(np.full((SIZE, SIZE, 3), 99 * number, np.uint8)).save(uri)
        about = {"uncertainty": 0.1, "mean_confidence": 0.9, "model_id": "m", "image": b"", "suffix": ""}
        made.append(Picture(name=f"p{number}", uri=str(uri), mask=MASK, **about))
    write_label_studio(made, TASK, str(tmp_path / "out"))
    return json.loads((tmp_path / "out" / "tasks.json").read_text())


def annotated(task: dict[str, Any], *more: dict[str, Any], updated_at: str = "2026-01-01", **about: Any) -> None:
    """As Label Studio does when a person submits: the prediction's regions, then what was painted."""
    result = [*task["predictions"][0]["result"], *more]
    task.setdefault("annotations", []).append({"result": result, "updated_at": updated_at, **about})


def painted(name: str, pixels: np.ndarray, kind: str = "brushlabels") -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_brush(pixels), "brushlabels": [name]}
    return {"type": kind, "original_height": SIZE, "original_width": SIZE, "value": value}


def read(tasks: list[dict[str, Any]], tmp_path: Path) -> dict[str, np.ndarray]:
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = load_annotations(str(tmp_path / "export.json"), image_size=SIZE, task=TASK)
    return {Path(one.uri).name: one.label for one in found}


def test_accepted_masks_are_those_of_the_model(tasks: list[dict[str, Any]], tmp_path: Path) -> None:
    for task in tasks:
        annotated(task)
    for mask in read(tasks, tmp_path).values():
        assert np.array_equal(mask, MASK)


def test_what_was_painted_last_is_in_front(tasks: list[dict[str, Any]], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((SIZE, SIZE)) < 0.4
    annotated(tasks[0], painted(TASK.class_names[2], pixels))
    (found,) = read(tasks, tmp_path).values()  # nobody has looked at the other one
    assert np.array_equal(found, np.where(pixels, 2, MASK))


def outlined(name: str, points: list[list[float]]) -> dict[str, Any]:
    value = {"points": points, "closed": True, "polygonlabels": [name]}
    return {"type": "polygonlabels", "original_height": SIZE, "original_width": SIZE, "value": value}


def test_polygons_are_drawn_in_percent_of_the_image(
    tasks: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = outlined(TASK.class_names[2], [[25, 50], [75, 50], [75, 100], [25, 100]])
    corner = painted(TASK.class_names[0], np.tri(SIZE, k=-12, dtype=bool))
    annotated(tasks[0], box, corner, outlined(TASK.class_names[1], [[0, 0], [50, 50]]))
    expected = MASK.copy()
    expected[8:, 4:12] = 2
    expected[np.tri(SIZE, k=-12, dtype=bool)] = 0
    (found,) = read(tasks, tmp_path).values()
    assert np.array_equal(found, expected)
    assert "1 polygons of fewer than three points are left out" in caplog.text


RECORDED = Path(__file__).parent / "label_studio_1.23.2.json"
"""What Label Studio's own window exported: masks of `jobs.export` accepted as they were; others with a stroke of the
brush across the face; and, in a project of polygons, four corners clicked."""


def test_what_label_studio_itself_exported() -> None:
    avatars = TASKS["avatars_10"]
    pairs = find_pairs(str(RECORDED), avatars, image_root=str(ASSETS / "samples"))
    found = {Path(pair.image).name: pair.read_mask(64, 64) for pair in pairs}
    for task, image in zip(json.loads(RECORDED.read_text()), ("00003.png", "00001.png"), strict=False):
        (prediction,) = task["predictions"]
        exported = np.full((64, 64), UNCOVERED)
        for region in prediction["result"]:
            (name,) = region["value"]["brushlabels"]
            exported[decode_brush(region["value"]["rle"], 64, 64)] = avatars.ids[name]
        painted_over = found[image] != exported
        assert (found[image][painted_over] == avatars.ids["accessory"]).all()
        assert painted_over.sum() == (80 if image == "00001.png" else 0)
    box = np.full((64, 64), UNCOVERED)
    box[18:45, 13:40] = avatars.ids["skin"]  # corners at 27.8 and 70.3 % of the height, 20.5 and 63.0 % of the width
    assert np.array_equal(found["00005.png"], box)


def test_the_latest_annotation_counts_unless_it_was_cancelled(tasks: list[dict[str, Any]], tmp_path: Path) -> None:
    everything = np.ones((SIZE, SIZE), bool)
    annotated(tasks[0], painted(TASK.class_names[2], everything), updated_at="2026-01-03")
    annotated(tasks[0], updated_at="2026-01-02")
    annotated(tasks[0], updated_at="2026-01-04", was_cancelled=True)
    (found,) = read(tasks, tmp_path).values()
    assert np.array_equal(found, np.full((SIZE, SIZE), 2))


def test_answers_that_are_no_regions_and_empty_tasks_are_left_out(
    tasks: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = {"type": "choices", "value": {"choices": ["blurred"]}}
    text = {"type": "textarea", "value": {"text": ["a note"]}}
    annotated(tasks[0], choice, text)
    tasks[1]["annotations"] = [{"result": []}]
    empty = {"data": {"image": "nowhere.png"}}
    odd = [empty, {**empty, "annotations": None}, {**empty, "annotations": [{"result": None}]}]
    (mask,) = read([*tasks, *odd], tmp_path).values()
    assert np.array_equal(mask, MASK)
    assert "2 results that are not regions are left out" in caplog.text
    assert "4 tasks without a painted region are left out" in caplog.text


def test_pixels_that_nobody_painted_may_have_a_class(tasks: list[dict[str, Any]], tmp_path: Path) -> None:
    pixels = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 3 == 0
    tasks[0]["annotations"] = [{"result": [painted(TASK.class_names[2], pixels)]}]
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    options = AnnotationOptions(uncovered=TASK.class_names[1])
    (found,) = load_annotations(str(tmp_path / "x.json"), image_size=SIZE, task=TASK, options=options)
    assert np.array_equal(found.label, np.where(pixels, 2, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"original_height": 32768, "original_width": 32768}, "is 32768 x 32768"),
        ({"original_height": SIZE, "original_width": 2 * SIZE}, "the aspect ratios differ"),
        ({"original_height": None}, "cannot be drawn"),
        ({"value": None}, "cannot be drawn"),
        ({"value": {"brushlabels": [], "rle": [0]}}, "cannot be drawn"),
        ({"value": {"brushlabels": ["sky"], "rle": [300]}}, "cannot be drawn"),
        ({"value": {"brushlabels": ["sky"], "rle": "abc"}}, "cannot be drawn"),
        ({"value": {"brushlabels": ["sky"], "rle": []}}, "cannot be drawn"),
        ({"value": {"brushlabels": [["sky"]], "rle": [0]}}, "cannot be drawn"),
    ],
)
def test_a_broken_region_is_one_line(
    tasks: list[dict[str, Any]], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    tasks[0]["annotations"] = [{"result": [{**painted("sky", np.ones((SIZE, SIZE), bool)), **change}]}]
    with pytest.raises(AnnotationError, match=message):
        read(tasks[:1], tmp_path)


def test_what_is_no_list_of_tasks_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"export\.json is not Label Studio's JSON .*: 0\.data: field required"):
        read([{"image": "a.png"}], tmp_path)


def test_what_cannot_be_used_is_named(tasks: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="2 tasks, none of them annotated"):
        read(tasks, tmp_path)
    pixels = np.ones((SIZE, SIZE), bool)
    for region, message in [
        (painted("fog", pixels), "label 'fog', which weather does not have"),
        (painted("sky", pixels, "ellipselabels"), "type 'ellipselabels', expected only brushlabels or polygonlabels"),
        (painted("sky", pixels, "polygonlabels"), "cannot be drawn"),
        (painted("sky", pixels[:3]), "cannot be drawn"),
    ]:
        task = dict(tasks[0])
        annotated(task, region)
        with pytest.raises(AnnotationError, match=message):
            read([task], tmp_path)
        del task["annotations"]
