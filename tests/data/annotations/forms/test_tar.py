"""Masks in tars, beside their images or without them, and our own exports as annotations."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.exports.huggingface import write_huggingface
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.exports.webdataset import write_webdataset
from ddpm_seg.data.image_set import load_images
from ddpm_seg.data.inputs.listing import list_images
from tests.data.exports.drawn import TASK, pictures, pixels_of

SIDE = 16


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_tar(path: Path, files: list[tuple[str, bytes]]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return str(path)


def drawn() -> list[Picture]:
    return list(pictures())


def loaded(uri: str) -> list[tuple[bytes, bytes]]:
    """The images and masks of annotations, as the network gets them, in any order."""
    found = load_annotations(uri, image_size=SIDE, task=TASK)
    return sorted((one.image.tobytes(), one.label.tobytes()) for one in found)


@pytest.fixture
def expected(tmp_path: Path) -> list[tuple[bytes, bytes]]:
    """The same annotations as files of their own."""
    for number, one in enumerate(drawn()):
        for folder, data in (("images", png(pixels_of(one))), ("masks", png(one.mask))):
            (tmp_path / "files" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "files" / folder / f"{number}.png").write_bytes(data)
    return loaded(str(tmp_path / "files"))


def test_images_beside_masks(tmp_path: Path, expected: list[tuple[bytes, bytes]]) -> None:
    files = []
    for number, one in enumerate(drawn()):
        mask = ("mask.npy", npy(one.mask)) if number % 2 else ("mask.png", png(one.mask))
        files.append([(f"a/{number}.png", png(pixels_of(one))), (f"a/{number}.{mask[0]}", mask[1])])
    half = len(files) // 2
    for name, part in {"00000.tar": files[:half], "00001.tar": files[half:]}.items():
        write_tar(tmp_path / name, [one for pair in part for one in pair])
    folder = tmp_path / "tars"
    folder.mkdir()
    for name in ("00000.tar", "00001.tar"):
        (tmp_path / name).rename(folder / name)
    for uri in (folder, folder / "{00000..00001}.tar", folder / "*.tar"):
        assert loaded(str(uri)) == expected
    whole = write_tar(tmp_path / "all.tar", [one for pair in files for one in pair])
    assert loaded(whole) == expected
    assert len(load_images(whole, SIDE, "letterbox")) == len(files), "pretraining takes the images alone"
    doubled = write_tar(tmp_path / "twice.tar", [*files[0], *files[0]])
    assert len(find_pairs(doubled, TASK)) == 2


def test_our_own_exports(tmp_path: Path, expected: list[tuple[bytes, bytes]]) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    samples = drawn()
    tar = write_tar(folder / "7.tar", [(f"{number}.png", png(pixels_of(one))) for number, one in enumerate(samples)])
    labelled = [
        dataclasses.replace(one, uri=f"{tar}#{number}.png", name=f"p{number}") for number, one in enumerate(samples)
    ]
    write_webdataset(labelled, TASK, str(tmp_path / "out"))
    assert loaded(str(tmp_path / "out")) == expected
    assert loaded(str(tmp_path / "out" / "7.tar")) == expected
    write_huggingface(labelled, TASK, str(tmp_path / "table"))
    assert loaded(str(tmp_path / "table")) == expected
    other = dataclasses.replace(TASK, class_names=tuple(reversed(TASK.class_names)))
    with pytest.raises(AnnotationError, match="give the task that it was made with"):
        find_pairs(str(tmp_path / "out"), other)
    with pytest.raises(ValueError, match="no images in"):
        list_images(str(tmp_path / "out" / "7.tar"))  # masks alone


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    one = drawn()[0]
    image, mask = png(pixels_of(one)), png(one.mask)
    cases = {
        "1 of 2 images have no mask: .*#1.png; expected KEY.mask.png": [
            ("0.png", image), ("0.mask.png", mask), ("1.png", image),
        ],
        "holds no masks": [("0.txt", b"text")],
        "0.mask.png has no image; expected 0.jpg": [("0.mask.png", mask)],
        "0.mask.png has no image": [("0.mask.png", mask), ("0.json", b"[" * 5000)],
    }  # fmt: skip
    for number, (message, files) in enumerate(cases.items()):
        with pytest.raises(AnnotationError, match=message):
            find_pairs(write_tar(tmp_path / f"{number}.tar", files), TASK)
    (tmp_path / "cut.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:1000])
    with pytest.raises(AnnotationError, match="ends in the middle"):
        find_pairs(str(tmp_path / "cut.tar"), TASK)


def test_a_tar_names_no_secrets_of_this_machine(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    for uri in (str(secret), "/etc/passwd", f"file://{secret}"):
        about = json.dumps({"uri": uri}).encode()
        tar = write_tar(tmp_path / "a.tar", [("0.mask.png", png(drawn()[0].mask)), ("0.json", about)])
        with pytest.raises(AnnotationError) as caught:
            load_annotations(tar, image_size=SIDE, task=TASK)
        assert "password" not in str(caught.value)
