from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.inputs.sources import read_image
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.tasks import Task

TASK = Task(
    name="three", class_names=("a", "b", "c"), palette=((255, 0, 0), (0, 255, 0), (0, 0, 255)), ignore_label=None
)
MASK = np.array([[0, 1], [2, 255]], dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)


def write(path: Path, data: bytes | np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif path.suffix == ".npy":
        np.save(path, data)
    else:
        path.write_bytes(png(data))


def table(path: Path, rows: list[dict[str, object]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_published_layout_and_its_missing_partners(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with pytest.raises(AnnotationError, match="holds no annotated images"):
        find_pairs(folder, TASK)
    for name in ("x", "y"):
        write(tmp_path / f"{name}.png", picture(0))
        write(tmp_path / f"{name}.npy", MASK)
    assert [Path(pair.image).name for pair in find_pairs(folder, TASK)] == ["x.png", "y.png"]
    (tmp_path / "y.npy").unlink()
    with pytest.raises(AnnotationError, match=r"1 of 2 images have no mask: .*y\.png; expected X\.npy beside X\.png"):
        find_pairs(folder, TASK)
    write(tmp_path / "y.npy", MASK)
    write(tmp_path / "z.npy", MASK)
    with pytest.raises(AnnotationError, match=r"1 of 3 masks have no image: .*z\.npy"):
        find_pairs(folder, TASK)
    (tmp_path / "z.npy").unlink()
    write(tmp_path / "y.jpg", b"")
    with pytest.raises(AnnotationError, match=r"y\.jpg, .*y\.png have the same name"):
        find_pairs(folder, TASK)


def test_two_folders_hold_images_and_masks(tmp_path: Path) -> None:
    write(tmp_path / "images" / "deep" / "x.png", picture(0))
    write(tmp_path / "images" / "y.png", picture(1))
    write(tmp_path / "masks" / "deep" / "x.png", MASK)
    write(tmp_path / "masks" / "y.npy", MASK)
    write(tmp_path / "overview.png", picture(2))
    annotations = load_annotations(str(tmp_path), image_size=2, task=TASK)
    assert [annotation.uri for annotation in annotations] == [
        str(tmp_path / "images" / name) for name in ("deep/x.png", "y.png")
    ]
    for annotation in annotations:
        np.testing.assert_array_equal(annotation.label, MASK)
    (tmp_path / "masks" / "deep" / "x.png").unlink()
    with pytest.raises(AnnotationError, match=r"1 of 2 images have no mask: .*x\.png; expected X\.png in masks/"):
        find_pairs(str(tmp_path), TASK)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_pair_however_unicode_composes_them(tmp_path: Path, forms: tuple[Any, Any]) -> None:
    image, mask = (unicodedata.normalize(form, "là/café") for form in forms)
    write(tmp_path / "images" / f"{image}.png", picture(0))
    write(tmp_path / "masks" / f"{mask}.png", MASK)
    (pair,) = find_pairs(str(tmp_path), TASK)
    assert pair.image == str(tmp_path / "images" / f"{image}.png")
    assert pair.mask == str(tmp_path / "masks" / f"{mask}.png")


def test_a_table_like_our_labels(tmp_path: Path) -> None:
    mask = {"bytes": png(MASK), "path": None}
    for name in "ab":
        write(tmp_path / f"{name}.png", picture(0))
    rows = [
        {"uri": str(tmp_path / "b.png"), "status": "ok", "mask": mask},
        {"uri": str(tmp_path / "gone.png"), "status": "error", "mask": None},
        {"uri": str(tmp_path / "a.png"), "status": "ok", "mask": mask},
    ]
    uri = table(tmp_path / "labels.parquet", rows)
    annotations = load_annotations(uri, image_size=2, task=TASK)
    assert [Path(annotation.uri).name for annotation in annotations] == ["a.png", "b.png"]
    np.testing.assert_array_equal(annotations[0].label, MASK)
    with pytest.raises(AnnotationError, match=r"holds .*a\.png more than once"):
        find_pairs(table(tmp_path / "twice.parquet", [*rows, rows[2]]), TASK)


@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_folder_may_be_called_like_a_file(where: str, tmp_path: Path, s3: Callable[[], str]) -> None:
    place = str(tmp_path) if where == "local" else s3()
    for number in range(2):  # as Spark writes a table
        file = table(tmp_path / "part", [{"image": png(picture(number)), "mask": png(MASK)}])
        storage.write_bytes(f"{place}/x.parquet/part-0000{number}.snappy.parquet", Path(file).read_bytes())
    storage.write_bytes(f"{place}/x.parquet/_SUCCESS", b"")
    for name in ("x.tar", "x.json", "x.xml"):
        storage.write_bytes(f"{place}/{name}/images/a.png", png(picture(3)))
        storage.write_bytes(f"{place}/{name}/masks/a.png", png(MASK))
    for name, count in {"x.parquet": 2, "x.parquet/": 2, "x.tar": 1, "x.json": 1, "x.xml": 1}.items():
        assert len(find_pairs(f"{place}/{name}", TASK)) == count


def test_a_table_may_hold_its_images(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": png(picture(seed)), "path": None}, "mask": {"bytes": png(MASK)}} for seed in (1, 2)]
    annotations = load_annotations(table(tmp_path / "own.parquet", rows), image_size=2, task=TASK)
    for annotation, seed in zip(annotations, (1, 2), strict=True):
        np.testing.assert_array_equal(annotation.image, picture(seed))


def test_images_in_a_table_are_its_rows_whatever_they_were_called(tmp_path: Path) -> None:
    names = ["b.png", "a.png", "a.png", None]
    rows = [
        {"image": {"bytes": png(picture(row)), "path": name}, "mask": {"bytes": png(MASK)}}
        for row, name in enumerate(names)
    ]
    for part in ("hf/0.parquet", "hf/1.parquet"):
        (tmp_path / "hf").mkdir(exist_ok=True)
        uri = table(tmp_path / part, rows)
    pairs = find_pairs(uri, TASK)
    assert [pair.image for pair in pairs] == [f"{uri}#{row}" for row in (3, 1, 2, 0)]  # "/..." is before "a.png"
    for pair in pairs:  # the name is one by which the image can be read and labelled
        assert read_image(pair.image)[0] == pair.read_image()
    assert len(load_annotations(str(tmp_path / "hf"), image_size=2, task=TASK)) == 8
    rows[1]["mask"] = {"bytes": b"text"}
    with pytest.raises(AnnotationError, match=r"hf/1\.parquet, row 1 \(a\.png\) is not a PNG"):
        load_annotations(table(tmp_path / part, rows), image_size=2, task=TASK)
    with pytest.raises(AnnotationError, match=r"holds .*x\.png more than once"):
        find_pairs(table(tmp_path / "uris.parquet", [{**row, "uri": "/x.png"} for row in rows]), TASK)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"uri": "a.png"}], "has the columns uri; expected mask, and uri or image"),
        ([{"uri": "a.png", "mask": {"bytes": None}}], "row 0 has no mask"),
        ([{"uri": "a.png", "mask": {"bytes": b"x"}, "status": "error"}], "none of its 1 rows has a mask"),
    ],
)
def test_a_table_without_masks_is_named(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        load_annotations(table(tmp_path / "wrong.parquet", rows), image_size=2, task=TASK)


def test_cells_may_be_bytes_or_names_of_files(tmp_path: Path) -> None:
    for name in ("photos/a.png", "photos/b.png", "photos/c.png"):
        write(tmp_path / name, picture(0))
    write(tmp_path / "drawn" / "c.png", MASK)
    cells = {
        "bytes": [{"image": png(picture(seed)), "mask": png(MASK)} for seed in (1, 2)],
        "names": [{"image": "photos/c.png", "mask": "drawn/c.png"}],
        "paths": [{"image": {"bytes": None, "path": "b.png"}, "mask": {"bytes": png(MASK), "path": None}}],
    }
    for kind, rows in cells.items():
        found = load_annotations(table(tmp_path / f"{kind}.parquet", rows), image_size=2, task=TASK)
        assert len(found) == len(rows)
        for one in found:
            np.testing.assert_array_equal(one.label, MASK)
    with pytest.raises(AnnotationError, match=r"row 0, mask has type int; expected bytes, a file name, or a struct"):
        find_pairs(table(tmp_path / "ints.parquet", [{"image": "a.png", "mask": 3}]), TASK)


def test_a_table_of_another_task_is_refused(tmp_path: Path) -> None:
    other = Task(name="other", class_names=("x", "y", "z"), palette=TASK.palette)
    empty = pa.Table.from_pylist([], schema=labels_schema(other))
    pq.write_table(empty, tmp_path / "labels.parquet")
    with pytest.raises(AnnotationError, match=r"holds masks of the task other \(x, y, z, \.\.\.\), not of three"):
        find_pairs(str(tmp_path / "labels.parquet"), TASK)


def test_a_broken_mask_in_a_table_is_named_by_its_row(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0))
    uri = table(tmp_path / "t.parquet", [{"uri": str(tmp_path / "a.png"), "mask": {"bytes": b"\x89PNG no more"}}])
    with pytest.raises(AnnotationError, match=r"t\.parquet, row 0 is not a PNG that can be read"):
        load_annotations(uri, image_size=2, task=TASK)


def test_hidden_and_system_copies_stop_no_training(tmp_path: Path) -> None:
    for folder in ("", "set/images/", "set/masks/"):
        write(tmp_path / f"{folder}x.png", picture(0) if folder != "set/masks/" else MASK)
    write(tmp_path / "x.npy", MASK)
    (tmp_path / "set" / "x.npy").write_bytes(b"")
    for name in ("._x.png", ".ipynb_checkpoints/x-checkpoint.png", "__MACOSX/._x.npy", "set/images/._x.png"):
        write(tmp_path / name, b"Mac OS X")
    write(tmp_path / "set" / "masks" / ".ipynb_checkpoints" / "x.png", b"")
    assert [Path(pair.image).name for pair in find_pairs(str(tmp_path / "set"), TASK)] == ["x.png"]
    (tmp_path / "set" / "x.npy").unlink()
    for name in ("images/x.png", "masks/x.png"):
        (tmp_path / "set" / name).unlink()
    assert [Path(pair.image).name for pair in find_pairs(str(tmp_path), TASK)] == ["x.png"]


def test_a_folder_with_one_json_for_all_its_images(tmp_path: Path) -> None:
    write(tmp_path / "x.png", picture(0))
    write(tmp_path / "notes.json", b'{"camera": 7}')
    with pytest.raises(AnnotationError, match=r"1 of 1 images have no mask"):  # as without the JSON
        find_pairs(str(tmp_path), TASK)
    square = {"image_id": 0, "category_id": 5, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
    content = {"images": [{"id": 0, "file_name": "x.png"}], "categories": [{"id": 5, "name": "b"}]}
    write(tmp_path / "_annotations.coco.json", json.dumps({**content, "annotations": [square]}).encode())
    (tmp_path / "notes.json").unlink()
    (pair,) = find_pairs(str(tmp_path), TASK)
    assert pair.read_mask(2, 2).tolist() == [[1, 1], [1, 1]]
    write(tmp_path / "x.npy", MASK)  # mask files count more
    (pair,) = find_pairs(str(tmp_path), TASK)
    assert np.array_equal(pair.read_mask(2, 2), MASK)
