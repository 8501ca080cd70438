"""A full disk under the folder for temporary files: each place that writes there says which disk it is."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg import spool
from ddpm_seg.data import image_set
from ddpm_seg.data.exports import webdataset
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.storage import s3_listing
from tests.tiny_bundle import TASK


def full(*_: Any, **__: Any) -> BinaryIO:
    """A file on a disk without space, by the kernel's own device for that."""
    return open("/dev/full", "r+b", buffering=0)


def write_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "TemporaryFile", full)
    schema = pa.schema({"uri": pa.string()})
    spool.Spool.of([pa.record_batch([["x" * 1000] * 100], schema=schema)], schema).table()


def write_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_set.tempfile, "TemporaryFile", full)
    image_set.ImageFile(64).append(np.zeros((64, 64, 3), np.uint8))


def write_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_listing, "SpooledTemporaryFile", full)
    listing = s3_listing._Listing("s3://data/x", "data")
    monkeypatch.setattr(listing, "page", lambda _: {"Contents": [{"Key": f"x{n}", "Size": n} for n in range(10_000)]})
    listing.to_file("x")


def write_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        webdataset.tarfile, "open", lambda *_: tarfile.TarFile(fileobj=io.FileIO("/dev/full", "r+"), mode="w")
    )
    about = {"uncertainty": 0.0, "mean_confidence": 1.0, "model_id": "m", "image": b"", "suffix": ""}
    mask = np.random.default_rng(0).integers(0, TASK.num_classes, (200, 200)).astype(np.uint8)
    webdataset.write_webdataset([Picture(name="a", uri="/in/a.png", mask=mask, **about)], TASK, "nowhere")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("write", [write_spool, write_images, write_listing, write_tars])
def test_the_full_disk_is_named(
    write: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(OSError, match=rf"no space left for (a|the) \w+( of images)? in {tmp_path}; set TMPDIR"):
        write(monkeypatch)
