"""Where the images of an annotation file are found."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("train/1.png", "val/1.png"),
        ("train/1.png", "/nfs/elsewhere/val/1.png"),
        ("train/1.png", "C:\\data\\val\\1.png"),
        ("train/scene/1.png", "val/scene/1.png"),
        ("images/train/1.png", "images/val/1.png"),
        ("masks/1.png", "images/1.png"),
    ],
)
def test_a_picture_of_another_folder_is_not_the_image_but_named(tmp_path: Path, image: str, name: str) -> None:
    other = touch(tmp_path / image)
    places = ImagePlaces(touch(tmp_path / "x.json"), None)
    assert places.find([name]) is None
    pair = places.pair([name], "x.json, 1", lambda height, width: np.zeros((height, width), int))
    expected = f"no image {name} in {tmp_path}, only others of its name: {other}; give its folder with --image-root"
    with pytest.raises(AnnotationError, match=re.escape(expected)):
        pair.read_image()
    # Whoever says where the images are is believed.
    assert ImagePlaces(str(tmp_path / "x.json"), str(Path(other).parent)).find([name]) == other


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("1.png", "val/1.png"),
        ("1.png", "D:\\photos\\1.png"),
        ("images/1.png", "/home/someone/photos/1.png"),
        ("val/1.png", "images/val/1.png"),
        ("images/val/1.png", "val/1.png"),
        ("sets/2024/val/1.png", "./val/1.png"),
        ("sets/1.png", "../1.png"),
        ("upload/3/1.png", "../../label-studio/data/media/upload/3/1.png"),
    ],
)
def test_folders_that_only_one_of_them_has_do_not_matter(tmp_path: Path, image: str, name: str) -> None:
    uri = touch(tmp_path / "set" / image)
    assert ImagePlaces(touch(tmp_path / "set" / "x.json"), None).find([name]) == uri


def test_a_picture_of_another_folder_stands_in_nobodys_way(tmp_path: Path) -> None:
    for place in ("sets/val", "sets/train", "other/val/deep"):
        touch(tmp_path / place / "1.png")
    assert ImagePlaces(str(tmp_path / "x.json"), None).find(["val/1.png"]) == str(tmp_path / "sets" / "val" / "1.png")


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("image", ["café.png", "images/é/café.png", "dépôt/là/café.png"])
def test_a_name_may_be_composed_or_decomposed(tmp_path: Path, forms: tuple[Any, Any], image: str) -> None:
    uri = touch(tmp_path / unicodedata.normalize(forms[0], image))
    touch(tmp_path / "elsewhere" / "cafe.png")
    name = unicodedata.normalize(forms[1], image)
    for asked in (name, name.rpartition("/")[2], f"/nfs/{name}"):
        assert ImagePlaces(str(tmp_path / "x.json"), None).find([asked]) == uri


def test_a_name_that_is_too_long_for_a_file_is_not_there(tmp_path: Path) -> None:
    name, uri = "x" * 300 + ".png", touch(tmp_path / "1.png")
    for one in (name, f"/{name}", f"{name}/1.jpg", "/".join(["x" * 200] * 30) + "/1.jpg"):
        assert ImagePlaces(str(tmp_path / "x.json"), None).find([one]) is None
    assert ImagePlaces(str(tmp_path / "x.json"), None).find([name, "1.png"]) == uri


def test_a_file_from_afar_names_no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, asked = touch(tmp_path / "secret.png"), []
    monkeypatch.setattr("ddpm_seg.storage.exists", lambda uri: bool(asked.append(uri)))
    monkeypatch.setattr("ddpm_seg.storage.list_files", lambda uri: [])
    assert ImagePlaces("s3://bucket/x.json", None).find([secret, f"file://{secret}"]) is None
    assert asked
    assert all(uri.startswith("s3://bucket/") for uri in asked)
