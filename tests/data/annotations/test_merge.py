"""`merge` in a task file: annotated categories that are parts of a class, in every form of annotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.brush_rle import encode_brush
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.data.schema import METADATA_KEY, labels_schema
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.model.bundle.ensemble_bundle import read_header, save_bundle
from ddpm_seg.tasks import Task
from jobs import evaluate, train
from tests.tiny_bundle import tiny_bundle

SIZE = 16
FINE = ("ground", "left_light", "right_light", "wheel")
COARSE = """
class_names: [ground, light, wheel]
merge:
  light: [left_light, right_light]
"""
FINE_MASK = np.repeat(np.arange(4), SIZE // 4)[:, None].repeat(SIZE, axis=1)  # four bands
MERGED = np.array([0, 1, 1, 2])[FINE_MASK]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "coarse.yaml").write_text(COARSE)
    return find_task(str(tmp_path / "coarse.yaml"))


def write_picture(folder: Path, name: str = "a.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / name)
    return folder / name


def bands() -> list[tuple[str, int, int]]:
    """Name, top and bottom of every category but the ground."""
    return [(name, number * SIZE // 4, (number + 1) * SIZE // 4) for number, name in enumerate(FINE) if number]


def coco(folder: Path, categories: tuple[str, ...] = FINE) -> str:
    write_picture(folder)
    objects = [
        {"image_id": 1, "category_id": FINE.index(name), "segmentation": [[0, a, SIZE, a, SIZE, b, 0, b]]}
        for name, a, b in bands()
    ]
    images = [{"id": 1, "file_name": "a.png", "height": SIZE, "width": SIZE}]
    named = [{"id": number, "name": name} for number, name in enumerate(categories)]
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": objects, "categories": named}))
    return str(folder / "coco.json")


def panoptic(folder: Path) -> str:
    write_picture(folder)
    (folder / "panoptic").mkdir()
    Image.fromarray(np.stack([FINE_MASK, 0 * FINE_MASK, 0 * FINE_MASK], axis=2).astype(np.uint8)).save(
        folder / "panoptic" / "a.png"
    )
    segments = [{"id": number, "category_id": number} for number in range(1, 4)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE, "width": SIZE}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(FINE)],
    }
    (folder / "panoptic.json").write_text(json.dumps(content))
    return str(folder / "panoptic.json")


def label_studio(folder: Path) -> str:
    image = write_picture(folder)
    regions: list[dict[str, Any]] = []
    for name, _, _ in bands():
        value = {"format": "rle", "rle": encode_brush(FINE.index(name) == FINE_MASK), "brushlabels": [name]}
        regions.append({"type": "brushlabels", "original_height": SIZE, "original_width": SIZE, "value": value})
    (folder / "export.json").write_text(
        json.dumps([{"data": {"uri": str(image)}, "annotations": [{"result": regions}]}])
    )
    return str(folder / "export.json")


def cvat(folder: Path) -> str:
    write_picture(folder)
    shapes = "".join(
        f'<polygon label="{name}" points="0,{a};{SIZE},{a};{SIZE},{b};0,{b}" z_order="0"/>' for name, a, b in bands()
    )
    about = f'id="0" name="a.png" width="{SIZE}" height="{SIZE}"'
    (folder / "cvat.xml").write_text(f"<annotations><image {about}>{shapes}</image></annotations>")
    return str(folder / "cvat.xml")


def own_table(folder: Path) -> str:
    """One of our tables of the finer task."""
    image = write_picture(folder)
    fine = Task(name="fine", class_names=FINE, palette=((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)))
    rows = [{"uri": str(image), "mask": {"bytes": encode_png(FINE_MASK.astype(np.uint8)), "path": None}}]
    metadata = {METADATA_KEY: labels_schema(fine).metadata[METADATA_KEY]}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), folder / "labels.parquet")
    return str(folder / "labels.parquet")


@pytest.mark.parametrize("form", [coco, panoptic, label_studio, cvat, own_table])
def test_categories_are_merged_by_name_in_every_form(tmp_path: Path, task: Task, form: Any) -> None:
    options = AnnotationOptions(uncovered="ground")
    (annotation,) = load_annotations(form(tmp_path / "data"), image_size=SIZE, task=task, options=options)
    np.testing.assert_array_equal(annotation.label, MERGED)


@pytest.mark.parametrize("form", ["npy", "grey", "indexed", "table"])
def test_ids_of_masks_are_merged_by_number(tmp_path: Path, form: str) -> None:
    (tmp_path / "t.yaml").write_text(
        "class_names: [ground, light, wheel]\nmerge: {ground: [0], light: [1, 2], 3: wheel}\n"
    )
    task, folder = find_task(str(tmp_path / "t.yaml")), tmp_path / "data"
    masks = folder / "masks"
    write_picture(folder if form in ("npy", "table") else folder / "images")

    def write(mask: np.ndarray) -> str:
        picture = Image.fromarray(mask.astype(np.uint8))
        if form == "npy":
            np.save(folder / "a.npy", mask)
        elif form == "table":
            row = {"uri": str(folder / "a.png"), "mask": {"bytes": encode_png(mask.astype(np.uint8)), "path": None}}
            pq.write_table(pa.Table.from_pylist([row]), folder / "t.parquet")
            return str(folder / "t.parquet")
        else:
            masks.mkdir(exist_ok=True)
            if form == "indexed":
                picture.putpalette([value for index in range(256) for value in (index, 7, 7)])
            picture.save(masks / "a.png")
        return str(folder)

    with_unknown = FINE_MASK.copy()
    with_unknown[0, 0] = 255
    (annotation,) = load_annotations(write(with_unknown), image_size=SIZE, task=task)
    expected = MERGED.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(annotation.label, expected)
    with pytest.raises(
        AnnotationError, match="holds the ids 4, which t does not merge into a class: its merge has 0, 1"
    ):
        load_annotations(write(FINE_MASK + 1), image_size=SIZE, task=task)


def test_masks_of_class_ids_stay_as_they_are_where_only_names_are_merged(tmp_path: Path, task: Task) -> None:
    write_picture(tmp_path / "data")
    np.save(tmp_path / "data" / "a.npy", MERGED)
    (annotation,) = load_annotations(str(tmp_path / "data"), image_size=SIZE, task=task)
    np.testing.assert_array_equal(annotation.label, MERGED)


def test_a_category_that_belongs_nowhere_is_refused_and_merge_named(tmp_path: Path, task: Task) -> None:
    uri = coco(tmp_path / "data", ("ground", "left_light", "roof", "wheel"))
    with pytest.raises(
        AnnotationError, match=r"categories that coarse does not have: roof; .* under merge: in the task"
    ):
        load_annotations(uri, image_size=SIZE, task=task)


def test_a_table_of_another_task_is_refused_if_a_class_of_it_belongs_nowhere(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("class_names: [ground, light, wheel]\nmerge: {left_light: light}\n")
    with pytest.raises(AnnotationError, match="holds masks of the task fine"):
        load_annotations(own_table(tmp_path / "data"), image_size=SIZE, task=find_task(str(tmp_path / "t.yaml")))


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (
            "{a: no_class}",
            "t.yaml: .*merge maps 'a' to 'no_class', which is not a class; expected one of ground, light",
        ),
        ("{no_class: [a, b]}", "t.yaml: .*which is not a class"),
        ("{ground: light}", "'ground' is a class itself"),
        ("{light: [a], ground: [a]}", "merge has the category 'a' in 'light' and in 'ground'"),
        ("[a, b]", "merge is .*expected the class of each category"),
        ("{light: [[a]]}", "merge of light is .*expected a name"),
        ("{light: {a: b}}", "merge of light is .*expected a name"),
    ],
)
def test_a_wrong_merge_is_one_line_that_names_the_file(tmp_path: Path, merge: str, message: str) -> None:
    (tmp_path / "t.yaml").write_text(f"class_names: [ground, light, wheel]\nmerge: {merge}\n")
    with pytest.raises(ValueError, match=message) as raised:
        find_task(str(tmp_path / "t.yaml"))
    assert "\n" not in str(raised.value)


def test_a_bundle_keeps_the_mapping_so_evaluate_reads_the_same_file(tmp_path: Path, task: Task) -> None:
    save_bundle(tiny_bundle(), str(tmp_path / "network"))
    images = ["--images", coco(tmp_path / "data"), "--uncovered", "ground"]
    named = ["--model", str(tmp_path / "network"), "--task", str(tmp_path / "coarse.yaml")]
    few = ["--members", "2", "--iterations", "3", "--device", "cpu", "--output", str(tmp_path / "model")]
    assert train.main([*named, *images, *few]) == 0
    assert read_header(str(tmp_path / "model")).task == task
    # Two annotators: the same file twice agrees wholly, and no cluster is needed.
    agreement = ["--labels-of", images[1], "--output", str(tmp_path / "agreement"), "--model", str(tmp_path / "model")]
    assert evaluate.main([*images, *agreement]) == 0
    found = json.loads((tmp_path / "agreement" / "metrics.json").read_text())
    assert [entry["class_name"] for entry in found["classes"] if entry["pixels"]] == ["ground", "light", "wheel"]
    assert found["usual_miou"] == 1
