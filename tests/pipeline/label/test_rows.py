from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.decoding.images import Limits
from ddpm_seg.data.fit_options import Refine
from ddpm_seg.data.image_labels import image_labels
from ddpm_seg.data.inputs.container import UNCHOSEN
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.members import look_into
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.pipeline.label.rows import MAX_MESSAGE, ImageInput, LabelSpec, fetch, label_table
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.storage import hosts, patience, stores
from tests.faulty_s3 import Refusal, faulty_s3
from tests.odd_images import write_odd_images
from tests.seaweedfs import S3Server
from tests.tiny_bundle import TASK

SIZE = 16


@pytest.fixture
def spec(tmp_path: Path) -> LabelSpec:
    return LabelSpec(
        layout=RunLayout(output=str(tmp_path / "out"), table="labels", config_hash="c", run_id="run-000001"),
        created_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
        model_id="m",
        code_version="v",
        image_size=SIZE,
        fit="letterbox",
        task=TASK,
    )


def source(read_uri: str, uri: str | None = None) -> ImageInput:
    return ImageInput(image_id="id", uri=uri or read_uri, read_uri=read_uri, etag=None, size_bytes=None)


def constant(label: int) -> PixelLabels:
    pixels = np.full((SIZE, SIZE), label, np.uint8)
    return PixelLabels(
        label=pixels,
        uncertainty=np.full(pixels.shape, 0.25, np.float32),
        confidence=np.full(pixels.shape, 0.5, np.float32),
    )


def test_every_odd_file_is_a_canvas_or_a_named_error(tmp_path: Path, spec: LabelSpec) -> None:
    expected = write_odd_images(tmp_path / "odd")
    for name, outcome in expected.items():
        image = fetch(source(str(tmp_path / "odd" / name)), spec)
        assert (image.error_type or "ok") == outcome, name
        assert (image.canvas is None) == (image.placement is None) == (outcome != "ok")
        if image.canvas is not None:
            assert (image.canvas.shape, image.canvas.dtype) == ((SIZE, SIZE, 3), np.uint8)


def test_what_is_wrong_with_a_file_is_its_row(tmp_path: Path, spec: LabelSpec) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "big.png").write_bytes(bytes(2000))
    limited = dataclasses.replace(spec, limits=Limits(max_bytes=1000))
    kinds = {
        name: fetch(source(str(tmp_path / name)), limited).error_type for name in ("gone.png", "folder.png", "big.png")
    }
    assert kinds == {"gone.png": "not_found", "folder.png": "read_failed", "big.png": "too_many_bytes"}


def test_a_name_that_no_file_can_have_is_an_error_row(tmp_path: Path, spec: LabelSpec) -> None:
    for name in ("\0.png", "a" * 5000 + ".png"):
        assert fetch(source(str(tmp_path / name)), spec).error_type == "read_failed"


def test_messages_are_one_line_whatever_a_name_holds(tmp_path: Path, spec: LabelSpec) -> None:
    pipe = tmp_path / "line\nbreak \x1b[31m \u202eturned \udcff.png"
    os.mkfifo(pipe)
    message = fetch(source(str(pipe)), spec).error_message or ""
    assert "not a regular file" in message
    assert message.isprintable()


def test_a_store_that_does_not_answer_is_not_the_images_fault(spec: LabelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    stores._open_filesystem.cache_clear()
    try:
        with pytest.raises(storage.StorageUnavailableError, match=r"s3://bucket/a\.png"):
            fetch(source("s3://bucket/a.png"), spec)
    finally:
        stores._open_filesystem.cache_clear()


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "RequestTimeTooSkewed"])
def test_credentials_that_are_refused_are_not_the_images_fault(
    code: Refusal, spec: LabelSpec, s3: Callable[[], str], s3_endpoint: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = s3()
    tables = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": [b"x"]}), tables)
    for name in ("a.png", "a.parquet"):
        storage.write_bytes(f"{root}/{name}", tables.getvalue().to_pybytes())
    stores._open_filesystem.cache_clear()
    with faulty_s3(s3_endpoint.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert fetch(source(f"{root}/a.parquet#0"), spec).error_type == "unidentified"
        proxy.fail(code)
        for uri in (f"{root}/a.png", f"{root}/a.parquet#0"):  # the latter's version is asked for, not read
            with pytest.raises(storage.StorageUnavailableError, match=code):
                fetch(source(uri), spec)
        with pytest.raises(storage.StorageUnavailableError, match=code):
            look_into(storage.FileInfo(uri=f"{root}/a.parquet"), UNCHOSEN)
        with pytest.raises(storage.CredentialsError, match=code):  # before the work: see `run`
            list_images(f"{root}/a.parquet")
        proxy.fail("403")
        for uri in (f"{root}/a.png", f"{root}/a.parquet#0"):
            assert fetch(source(uri), spec).error_type == "access_denied"
        proxy.fail("InvalidObjectState")
        for uri in (f"{root}/a.png", f"{root}/a.parquet#0"):
            image = fetch(source(uri), spec)
            assert (image.error_type, "restore it" in (image.error_message or "")) == ("access_denied", True)
    stores._open_filesystem.cache_clear()


def test_messages_hold_no_secret_and_are_short(spec: LabelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0)
    monkeypatch.setattr(hosts, "_allowed", False)  # afterwards again
    spec = dataclasses.replace(spec, allow_local_hosts=True)
    uri = "https://user:password@127.0.0.1:9/" + "a" * 1000 + ".png?X-Amz-Signature=secret"
    image = fetch(source(uri, "https://127.0.0.1:9/a.png"), spec)
    assert image.error_type == "read_failed"
    message = image.error_message or ""
    assert message
    assert "secret" not in message
    assert "password" not in message
    assert len(message) <= MAX_MESSAGE


def test_rows_have_the_masks_own_size_and_errors_no_mask(tmp_path: Path, spec: LabelSpec) -> None:
    Image.new("RGB", (50, 20), "red").save(tmp_path / "wide.png")
    images = [fetch(source(str(tmp_path / name)), spec) for name in ("gone.png", "wide.png")]
    error, ok = label_table(images, [None, constant(3)], spec).to_pylist()
    assert (error["status"], error["error_type"], error["mask"], error["classes"]) == ("error", "not_found", None, None)
    assert (ok["status"], ok["width"], ok["height"], ok["error_type"]) == ("ok", 50, 20, None)
    assert ok["size_bytes"] == (tmp_path / "wide.png").stat().st_size
    (only,) = ok["classes"]
    assert (only["class_name"], only["pixels"], only["fraction"], only["components"]) == ("blue", 1000, 1.0, 1)
    assert (ok["uncertainty"], ok["mean_confidence"]) == (0.25, 0.5)
    assert error["created_at"] == ok["created_at"] == spec.created_at


def test_maps_are_written_where_they_are_asked_for(tmp_path: Path, spec: LabelSpec) -> None:
    Image.fromarray(np.zeros((40, 24, 3), np.uint8)).save(tmp_path / "a.png")
    image = fetch(source(str(tmp_path / "a.png")), spec)
    top = np.stack([np.full((SIZE, SIZE), 2, np.uint8), np.zeros((SIZE, SIZE), np.uint8)])
    label = dataclasses.replace(
        constant(2), top_ids=top, top_probabilities=np.where(top == 2, 204, 51).astype(np.uint8)
    )
    for resize, level in (("bilinear", 204), ("nearest", 128)):
        (row,) = label_table([image], [label], dataclasses.replace(spec, maps=True, resize=resize)).to_pylist()
        assert (row_mask(row) == 2).all()
        assert (row_mask(row, column="confidence_map") == level).all()
        own = row_mask({**row, "width": None, "height": None}, column="network_mask")
        assert own.shape == (16, 10)
        assert (own == 2).all()
    assert not {"confidence_map", "network_mask"} & set(label_table([image], [label], spec).column_names)


def two_colours(path: Path) -> tuple[np.ndarray, PixelLabels]:
    """An image with one straight edge, and what a network says that sees it blurred."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 34:] = 255
    Image.fromarray(image).save(path)
    right = np.clip((np.arange(SIZE) - 6) / 4, 0, 1) * np.ones((SIZE, 1))
    top = np.stack([np.where(right > 0.5, 1, 0), np.where(right > 0.5, 0, 1)]).astype(np.uint8)
    p = np.rint(np.stack([np.maximum(right, 1 - right), np.minimum(right, 1 - right)]) * 255).astype(np.uint8)
    return image, dataclasses.replace(constant(0), label=top[0], top_ids=top, top_probabilities=p)


@pytest.mark.parametrize("refine", ["bilateral", "guided"])
def test_refined_masks_follow_the_image_that_is_read_again(tmp_path: Path, spec: LabelSpec, refine: Refine) -> None:
    image, label = two_colours(tmp_path / "a.png")
    spec = dataclasses.replace(spec, resize="bilinear", refine=refine)
    fitted = fetch(source(str(tmp_path / "a.png")), spec)
    assert fitted.placement is not None
    (row,) = label_table([fitted], [label], spec).to_pylist()
    expected = image_labels(label, fitted.placement, TASK.class_names, "bilinear", refine, image)
    assert row["status"] == "ok"
    np.testing.assert_array_equal(row_mask(row), expected.mask)
    plain = image_labels(label, fitted.placement, TASK.class_names, "bilinear").mask
    assert (row_mask(row) != image[..., 0] // 255).mean() <= (plain != image[..., 0] // 255).mean()


def test_an_image_that_changed_meanwhile_is_an_error_row(tmp_path: Path, spec: LabelSpec) -> None:
    _, label = two_colours(tmp_path / "a.png")
    spec = dataclasses.replace(spec, resize="bilinear", refine="bilateral")
    fitted = fetch(source(str(tmp_path / "a.png")), spec)
    Image.fromarray(np.zeros((64, 70, 3), np.uint8)).save(tmp_path / "a.png")
    (changed,) = label_table([fitted], [label], spec).to_pylist()
    assert (changed["error_type"], changed["mask"]) == ("read_failed", None)
    assert "changed while" in changed["error_message"]
    (tmp_path / "a.png").unlink()
    (gone,) = label_table([fitted], [label], spec).to_pylist()
    assert gone["error_type"] == "not_found"
