"""Where the images of an annotation file are found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.image_places import ImagePlaces


def test_an_image_that_is_nowhere_is_named(tmp_path: Path) -> None:
    places = ImagePlaces(touch(tmp_path / "x.json"), None)
    pair = places.pair(["a.png", "b.png"], "x.json, task 3", lambda height, width: np.zeros((height, width), int))
    expected = f"x.json, task 3: found no image a.png in {tmp_path}; give its folder with --image-root"
    with pytest.raises(AnnotationError, match=re.escape(expected)):
        pair.read_image()


def touch(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"an image")
    return str(path)


@pytest.mark.parametrize(
    ("annotations", "image", "names"),
    [
        ("x.json", "a.jpg", ["a.jpg"]),
        ("x.json", "images/a.jpg", ["a.jpg"]),
        ("x.json", "JPEGImages/a.jpg", ["a.jpg", "JPEGImages/a.jpg"]),
        ("x.json", "JPEGImages/a.jpg", ["a.jpg"]),
        ("x.json", "deep/down/below/a.jpg", ["a.jpg"]),
        ("x.json", "train/a.jpg", ["C:\\data\\train\\a.jpg"]),
        ("x.json", "train/a.jpg", ["/nfs/elsewhere/train/a.jpg"]),
        ("annotations/instances_val2017.json", "val2017/a.jpg", ["a.jpg"]),
        ("annotations/instances_val2017.json", "images/val2017/a.jpg", ["a.jpg"]),
        ("annotations/instances_val2017.json", "images/a.jpg", ["a.jpg"]),
        ("export.json", "photos/a.jpg", ["/data/local-files/?d=photos/a.jpg"]),
        ("export.json", "up/loaded.jpg", ["/data/upload/3/1234abcd-loaded.jpg", "loaded.jpg"]),
        ("a/b/x.json", "a/b/ä b/#1.jpg", ["ä b/#1.jpg"]),
    ],
)
def test_the_usual_places(tmp_path: Path, annotations: str, image: str, names: list[str]) -> None:
    uri = touch(tmp_path / image)
    assert ImagePlaces(touch(tmp_path / annotations), None).find(names) == uri


def test_the_root_that_is_given_is_the_only_place(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    elsewhere = touch(tmp_path / "elsewhere" / "sub" / "b.jpg")
    places = ImagePlaces(str(tmp_path / "x.json"), str(tmp_path / "elsewhere"))
    assert places.find(["a.jpg"]) is None
    assert places.find(["b.jpg"]) == elsewhere


def test_of_two_files_of_one_name_neither_is_taken_unless_their_folder_tells(tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / split / "1.jpg")
    places = ImagePlaces(str(tmp_path / "x.json"), None)
    assert places.find(["1.jpg"]) is None
    assert places.find(["/home/someone/val/1.jpg"]) == str(tmp_path / "val" / "1.jpg")


def test_a_file_from_afar_names_no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, asked = touch(tmp_path / "secret.png"), []
    monkeypatch.setattr("ddpm_seg.storage.exists", lambda uri: bool(asked.append(uri)))
    monkeypatch.setattr("ddpm_seg.storage.list_files", lambda uri: [])
    assert ImagePlaces("s3://bucket/x.json", None).find([secret, f"file://{secret}"]) is None
    assert asked
    assert all(uri.startswith("s3://bucket/") for uri in asked)
