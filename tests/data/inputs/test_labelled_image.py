"""An image that has taken the place of the one that was labelled, with as many pixels, gets no mask of that one."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import load_annotations, load_pairs
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.data.inputs.labelled_image import VERSION, is_another, read_labelled
from ddpm_seg.data.inputs.sources import read_image
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.tables.changes import find_changes
from ddpm_seg.evaluation.tables.changes_config import ChangesConfig
from ddpm_seg.training.ensemble.accepted import accepted_pairs
from jobs import export
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

SIDE = 10


def bmp(level: int) -> bytes:
    """As long as that of any other level."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (level, 0, 0)).save(file, "BMP")
    return file.getvalue()


def version(uri: str) -> dict[str, object]:
    found = dataclasses.asdict(read_image(uri)[1])
    return {name: found[name] for name in VERSION}


def row(uri: str, level: int = 0) -> dict[str, object]:
    mask = {"bytes": encode_png(np.full((SIDE, SIDE), level, np.uint8)), "path": None}
    return {**labelled(level, **{TASK.class_names[level]: 1.0}), **version(uri), "mask": mask}


def test_an_object_of_as_many_bytes_is_told_by_its_etag(s3: Callable[[], str]) -> None:
    uri = f"{s3()}/a.bmp"
    storage.write_bytes(uri, bmp(1))
    before = version(uri)
    assert read_labelled(uri, before) == bmp(1)
    storage.write_bytes(uri, bmp(2))
    with pytest.raises(ImageError, match="has been replaced since it was labelled"):
        read_labelled(uri, before)
    assert read_labelled(uri, {**before, "etag": None}) == bmp(2)  # nothing tells them apart
    assert read_labelled(uri, {}) == bmp(2)


def test_a_local_file_is_told_by_its_size(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(bmp(1))
    before = version(str(file))
    file.write_bytes(bmp(1) + b"0")
    with pytest.raises(ImageError, match="has been replaced"):
        read_labelled(str(file), before)


def test_a_member_of_a_tar_is_told_by_its_own_size(tmp_path: Path) -> None:
    def pack(*members: bytes) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for number, data in enumerate(members):
                about = tarfile.TarInfo(f"{number}.bmp")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))

    uri = f"{tmp_path}/x.tar#0.bmp"
    pack(bmp(1))
    before = version(uri)
    pack(bmp(1), bmp(2))
    assert read_labelled(uri, before) == bmp(1)
    pack(bmp(1) + b"0")
    with pytest.raises(ImageError, match="has been replaced"):
        read_labelled(uri, before)


@pytest.mark.parametrize(("uri", "expected"), [("s3://b/a.png", True), ("https://host/a.png", False)])
def test_a_web_server_may_change_its_etags(uri: str, expected: bool) -> None:
    one = {"etag": "1", "size_bytes": 9}
    assert is_another(uri, one, {"etag": "2", "size_bytes": 9}) == expected
    assert is_another(uri, one, {"etag": "1", "size_bytes": 8})
    assert not is_another(uri, one, one)


def test_an_export_leaves_it_out(s3: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = s3()
    for name in "abc":
        storage.write_bytes(f"{folder}/{name}.bmp", bmp(1))
    night(f"{folder}/labels", 1, {f"{name}.bmp": row(f"{folder}/{name}.bmp") for name in "abc"}, prefix=folder)
    storage.write_bytes(f"{folder}/b.bmp", bmp(2))
    asked = ["--labels", f"{folder}/labels", "--to", "png", "--output"]
    assert export.main([*asked, str(tmp_path / "two")]) == 0
    assert f"2 images to {tmp_path / 'two'}; left out: 1 changed" in capsys.readouterr().out
    for name in "ac":
        storage.write_bytes(f"{folder}/{name}.bmp", bmp(3))
    assert export.main([*asked, str(tmp_path / "none")]) == 2
    assert "nothing to export: of the 3 selected images, 3 changed" in capsys.readouterr().err


def test_changes_do_not_compare_its_masks(s3: Callable[[], str]) -> None:
    folder = s3()
    for name in "ab":
        storage.write_bytes(f"{folder}/{name}.bmp", bmp(1))
    night(f"{folder}/labels", 1, {f"{name}.bmp": row(f"{folder}/{name}.bmp") for name in "ab"}, prefix=folder)
    storage.write_bytes(f"{folder}/b.bmp", bmp(2))
    after = {f"{name}.bmp": row(f"{folder}/{name}.bmp", 1) for name in "ab"}
    night(f"{folder}/labels", 2, after, prefix=folder, config_hash="d")
    found = find_changes(ChangesConfig(labels=f"{folder}/labels"))
    assert (found.images, found.replaced) == (1, 1)
    assert [one.uri for one in found.most] == [f"{folder}/a.bmp"]


def test_a_table_of_labels_does_not_teach_with_it(s3: Callable[[], str], tmp_path: Path) -> None:
    uri, table = f"{s3()}/a.bmp", tmp_path / "labels.parquet"
    storage.write_bytes(uri, bmp(1))
    pq.write_table(pa.Table.from_pylist([{"uri": uri, **row(uri)}]), table)
    (found,) = load_annotations(str(table), image_size=SIDE, task=TASK)
    assert found.image[0, 0, 0] == 1
    storage.write_bytes(uri, bmp(2))
    with pytest.raises(AnnotationError, match=r"a\.bmp: the image has been replaced since it was labelled"):
        load_annotations(str(table), image_size=SIDE, task=TASK)


def test_neither_does_a_mask_that_was_accepted(s3: Callable[[], str], tmp_path: Path) -> None:
    folder, only = s3(), tmp_path / "only.txt"
    storage.write_bytes(f"{folder}/a.bmp", bmp(1))
    night(f"{folder}/labels", 1, {"a.bmp": row(f"{folder}/a.bmp")}, prefix=folder)
    only.write_text(f"{folder}/a.bmp\n")
    pairs = accepted_pairs(f"{folder}/labels", str(only), TASK, None)
    assert len(load_pairs(pairs, image_size=SIDE, task=TASK)) == 1
    storage.write_bytes(f"{folder}/a.bmp", bmp(2))
    with pytest.raises(AnnotationError, match="has been replaced since it was labelled"):
        load_pairs(pairs, image_size=SIDE, task=TASK)
