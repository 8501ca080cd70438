"""Masks in tars, read back by WebDataset itself beside the images that they belong to."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.exports.webdataset import write_webdataset
from tests.data.exports.drawn import TASK, pictures

wds = pytest.importorskip("webdataset")


def at(uris: list[str]) -> list[Picture]:
    drawn = pictures()
    return [dataclasses.replace(drawn[place % len(drawn)], uri=uri, name=f"p{place}") for place, uri in enumerate(uris)]


def keys(folder: Path) -> dict[str, dict[str, str]]:
    """Of every tar below a folder the URIs of its masks' images by key."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*.tar")):
        of_tar = found[path.relative_to(folder).as_posix()] = {}
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert len(set(names)) == len(names), "unpacking would overwrite one"
            for name in names:
                if name.endswith(".json"):
                    assert f"{name.removesuffix('json')}mask.png" in names
                    of_tar[name.removesuffix(".json")] = json.load(archive.extractfile(name) or io.BytesIO())["uri"]
    return found


def samples(path: Path) -> list[dict[str, object]]:
    return list(wds.WebDataset(str(path), shardshuffle=False))


def test_masks_have_the_shards_and_keys_of_their_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    with wds.ShardWriter(f"{images}/%05d.tar", maxcount=3, verbose=0) as writer:
        for number in range(6):
            writer.write({"__key__": f"a/{number:03d}", "png": b"picture", "txt": "caption"})
    uris = [f"{images}/{number // 3:05d}.tar#a/{number:03d}.png" for number in range(6)]
    labelled = at([uris[0], uris[4], uris[1], uris[2], uris[3], uris[5]])  # a tar may come in pieces
    output = tmp_path / "out"
    write_webdataset(labelled, TASK, str(output))
    assert sorted(path.name for path in output.iterdir()) == ["00000.tar", "00001.tar"]
    for name in ("00000.tar", "00001.tar"):
        masks = {one["__key__"]: one for one in samples(output / name)}
        assert sorted(masks) == [one["__key__"] for one in samples(images / name)]
    by_uri = {one.uri: one for one in labelled}
    for name in ("00000.tar", "00001.tar"):
        for one in samples(output / name):
            uri = f"{images}/{name}#{one['__key__']}.png"
            about = json.loads(one["json"])  # type: ignore[arg-type]
            mask = np.asarray(Image.open(io.BytesIO(one["mask.png"])))  # type: ignore[arg-type]
            assert np.array_equal(mask, by_uri[uri].mask)
            assert (about["uri"], about["model_id"]) == (uri, "m-1")
            assert {each["class_id"] for each in about["classes"]} == {each for each, _ in by_uri[uri].classes()}


def test_names_of_tars_tables_and_files(tmp_path: Path) -> None:
    uris = [
        "s3://b/x/00000.tar#1.jpg",
        "s3://b/y/00000.tar#1.jpg",
        "s3://b/y/train.parquet#17",
        "s3://b/alone.png",
        "s3://b/packed.tar.gz#2.jpg",
        "s3://b/packed.tar.gz#2.jpg?2",
        "s3://b/packed.tar.gz#../../etc/passwd.jpg",
    ]
    write_webdataset(at(uris), TASK, str(tmp_path))
    found = {}
    for path in sorted(tmp_path.rglob("*.tar")):
        with tarfile.open(path) as archive:
            found[str(path.relative_to(tmp_path))] = [name for name in archive.getnames() if name.endswith(".json")]
    assert found == {
        "files-00000.tar": ["p3.json"],
        "packed.tar": ["2.json", "2?2.json", "p6.json"],
        "train.tar": ["17.json"],
        "x/00000.tar": ["1.json"],
        "y/00000.tar": ["1.json"],
    }


@pytest.mark.parametrize(
    "containers",
    [
        ("/d/猫.tar", "/d/犬.tar"),
        ("/d/hüte.tar", "/d/höte.tar"),
        ("/d/A b.tar", "/d/A_b.tar"),
        ("/d/0.tar", "/d/0.tar.gz", "/d/0.parquet"),
        ("/d/ä/0.tar", "/d/ö/0.tar"),
        ("/d/0.tar", "s3://b/0.tar"),
        ("/d/x/0.tar", "/d/y/0.tar", "s3://b/x/0.tar", "s3://c/x/0.tar", "/e/1.tar"),
        ("/d/files-00000.tar", "s3://b/files-00000.tar", ""),  # "": of images that lie in none
        ("/d/.../0.tar", "//d/0.tar", "/d/0.tar"),
    ],
)
def test_each_container_has_a_tar_of_its_own(tmp_path: Path, containers: tuple[str, ...]) -> None:
    uris = [f"{container}#{number}" if container else "/d/a.png" for number in range(2) for container in containers]
    write_webdataset(at(uris), TASK, str(tmp_path / "out"))
    found = keys(tmp_path / "out")
    assert len(found) == len(containers)
    assert sorted(uri for of_tar in found.values() for uri in of_tar.values()) == sorted(uris)
    for of_tar in found.values():
        assert len({uri.partition("#")[0] for uri in of_tar.values()}) == 1
    write_webdataset(at(uris[::-1]), TASK, str(tmp_path / "again"))
    assert {name: sorted(of_tar.values()) for name, of_tar in keys(tmp_path / "again").items()} == {
        name: sorted(of_tar.values()) for name, of_tar in found.items()
    }, "whatever the order"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["1.left.jpg", "1.right.jpg", "2.left.jpg"], ["1_left", "1_right", "2"]),
        (["a/1.left.jpg", "a/1.right.jpg", "b/1.left.jpg"], ["a/1_left", "a/1_right", "b/1"]),
        (["1.left.jpg", "1.right.jpg", "1_left.jpg"], ["p0", "1_right", "1_left"]),
        (["1.jpg", "2.jpg", "1.png"], ["p0", "2", "p2"]),
    ],
)
def test_each_image_has_a_key_of_its_own(tmp_path: Path, members: list[str], expected: list[str]) -> None:
    write_webdataset(at([f"/d/0.tar#{member}" for member in members]), TASK, str(tmp_path))
    assert keys(tmp_path) == {
        "0.tar": {key: f"/d/0.tar#{member}" for key, member in zip(expected, members, strict=True)}
    }
    assert [one["__key__"] for one in samples(tmp_path / "0.tar")] == expected
