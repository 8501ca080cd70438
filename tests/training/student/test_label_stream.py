"""Real images with the masks that jobs.label gave them, to train a student on."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg import storage
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.model.bundle.ensemble_bundle import read_header, save_bundle
from ddpm_seg.model.bundle.student_bundle import load_student, read_student_header
from ddpm_seg.model.networks.plain_unet import PlainUNet
from ddpm_seg.model.networks.unet_student import UNetStudentConfig
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, inputs_table, plan
from ddpm_seg.runs.parquet import encode
from ddpm_seg.training.student.label_stream import LabelStream
from jobs.distill import main
from tests.annotated_boxes import annotate
from tests.tiny_bundle import TASK, tiny_bundle

HEIGHT, WIDTH, SIZE = 16, 24, 16


def _image(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright box (class 1) on a dark ground (class 0), its mask, and a confidence that is low in the first row."""
    rng = np.random.default_rng(number)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    top, left = rng.integers(1, 7, 2)
    mask[top : top + 8, left : left + 12] = 1
    image = np.where(mask[:, :, None] == 1, 220, 30) + rng.integers(-20, 20, (HEIGHT, WIDTH, 3))
    confidence = np.full((HEIGHT, WIDTH), 250, np.uint8)
    confidence[0] = 100
    return image.astype(np.uint8), mask, confidence


def publish_labels(folder: Path, count: int, *, maps: bool = True, fitted: str = "letterbox") -> Path:
    """Images in `images/`, and labels of them as jobs.label writes them, made by the model in `model/`."""
    model, output = folder / "model", folder / "labels"
    model_id = save_bundle(tiny_bundle(size=SIZE), str(model)).model_id
    (folder / "images").mkdir()
    rows: list[dict[str, Any]] = []
    for number in range(count):
        image, mask, confidence = _image(number)
        uri = str(folder / "images" / f"{number:03}.png")
        Image.fromarray(image).save(uri)
        picture = {"mask": {"bytes": encode_png(mask), "path": None}}
        picture |= {"confidence_map": {"bytes": encode_png(confidence), "path": None}} if maps else {}
        about = {"image_id": f"{number:032}", "uri": uri, "status": "ok", "uncertainty": 0.1, "model_id": model_id}
        rows.append({**about, "width": WIDTH, "height": HEIGHT, **picture})
    rows.append({"image_id": "e" * 32, "uri": "gone.png", "status": "error"})
    rows = [{**row, "config_hash": "c", "run_id": "run-000001"} for row in rows]
    config = {"fit": fitted, "model": str(model)}
    info = RunInfo(run_id="", config_hash="c", created_at=datetime.now(timezone.utc), config=config)
    files = [storage.FileInfo(uri=row["uri"], size_bytes=1) for row in rows]
    freeze_run(str(output), "labels", Manifest(info=info, items=plan(inputs_table(files), 100, 10)), 1)
    layout = RunLayout(output=str(output), table="labels", config_hash="c", run_id="run-000001")
    table = pa.Table.from_pylist(rows, schema=labels_schema(TASK, maps=maps))
    storage.write_bytes(layout.shard(0), encode(table, row_group_size=4))
    return output


def _all(stream: LabelStream, share: int = 2) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*stream.batches(0, 0, share, 0, 1), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("fitted", ["letterbox", "stretch"])
def test_images_and_masks_meet_the_square_as_the_teacher_s_did_and_doubt_is_ignored(
    tmp_path: Path, fitted: str
) -> None:
    stream = LabelStream(str(publish_labels(tmp_path, 6, fitted=fitted)), ignore_below=0.5)
    assert (stream.fit, stream.size, stream.num_images, stream.config_hash) == (fitted, SIZE, 6, "c")
    assert stream.model_id == read_header(str(tmp_path / "model")).model_id
    found = {image.tobytes(): label for image, label in zip(*_all(stream), strict=True)}
    for number in range(6):
        image, mask, _ = _image(number)
        canvas, placement = fit(image, SIZE, fitted)
        inside = placement.crop(found[canvas.tobytes()])
        assert (inside[0] == 255).all()
        assert set(np.unique(inside[1:])) == {0, 1}
        shares = (inside[1:] == 1).mean(), (mask[1:] == 1).mean()
        assert abs(shares[0] - shares[1]) < 0.1
        outside = found[canvas.tobytes()].copy()
        placement.crop(outside)[:] = 255
        assert (outside == 255).all()


def test_every_image_comes_once_an_epoch_in_another_order_and_once_among_workers(tmp_path: Path) -> None:
    stream = LabelStream(str(publish_labels(tmp_path, 8)))

    def order(epoch: int, rank: int = 0, world: int = 1) -> list[bytes]:
        return [image.tobytes() for images, _ in stream.batches(3, epoch, 2, rank, world) for image in images]

    assert order(0) == order(0) != order(1)
    assert len(set(order(0))) == 8
    assert sorted(order(0, 0, 2) + order(0, 1, 2)) == sorted(order(0))


def test_images_that_are_gone_or_changed_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = publish_labels(tmp_path, 6)
    (tmp_path / "images" / "001.png").unlink()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "002.png")
    (tmp_path / "images" / "003.png").write_bytes(b"no image")
    stream = LabelStream(str(output))
    with caplog.at_level(logging.WARNING):
        assert len(_all(stream, 3)[0]) == 3
    for name in ("001.png", "002.png is left out: it has another size than when it was labelled", "003.png"):
        assert name in caplog.text


def test_labels_without_maps_are_learned_whole_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = publish_labels(tmp_path, 2, maps=False, fitted="stretch")
    with caplog.at_level(logging.WARNING):
        stream = LabelStream(str(output), ignore_below=0.5)
    assert "label with --maps to leave them out" in caplog.text
    assert (_all(stream)[1] != 255).all()


def test_without_the_teacher_s_bundle_the_size_must_be_given(tmp_path: Path) -> None:
    output = publish_labels(tmp_path, 2)
    (tmp_path / "model" / "bundle.json").unlink()
    with pytest.raises(ValueError, match=r"is no longer at .*model: give --image-size"):
        LabelStream(str(output))
    assert LabelStream(str(output), size=24).size == 24


def test_a_unet_learns_from_labels_and_is_a_model_as_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(publish_labels(tmp_path, 32, fitted="stretch"))
    student = str(tmp_path / "student")
    how = ["--architecture", "unet", "--epochs", "6", "--batch-size", "4", "--learning-rate", "3e-3"]
    assert main(["--labels", output, "--output", student, *how]) == 0
    assert "kept      epoch 6" in capsys.readouterr().out
    header = read_student_header(student)
    assert header.student == UNetStudentConfig(num_classes=TASK.num_classes, image_size=SIZE)
    assert isinstance(header.student.build(), PlainUNet)
    assert header.to_json()["schema_version"] == 3
    teacher = {"model_id": read_header(str(tmp_path / "model")).model_id, "config_hash": "c"}
    assert header.provenance["teacher"] == teacher
    assert header.provenance["fit"] == "stretch"
    assert header.provenance["distillation"]["labels"]["count"] == 32
    load_student(student, header.model_id)
    segment, right = ddpm_seg.load(student, device="cpu"), []
    for number in range(100, 105):  # not seen
        image, mask, _ = _image(number)
        right.append((segment(image).mask == mask).mean())
    assert np.mean(right) > 0.9  # one class everywhere is right for three quarters


def test_annotated_images_instead_of_labels_need_no_samples(tmp_path: Path) -> None:
    output = str(publish_labels(tmp_path, 2))
    images = str(annotate(tmp_path / "annotated", 4))
    how = ["--images", images, "--architecture", "unet", "--epochs", "1", "--batch-size", "2"]
    assert main(["--labels", output, "--output", str(tmp_path / "real"), *how]) == 0
    assert load_student(str(tmp_path / "real")).provenance["distillation"]["images"] == images


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either --samples, which ddpm-seg generate wrote, or --labels"),
        (["--samples", "s", "--labels", "l"], "give either --samples"),
        (["--samples", "s", "--image-size", "32"], "--image-size is for --labels"),
        (["--labels", "l", "--ignore-below", "50"], "ignore_below is 50"),
        (["--labels", "l", "--architecture", "unet", "--backbone-weights", "w.pth"], "a U-Net has no backbone"),
        (["--labels", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    try:
        status = main([*flags, "--output", str(tmp_path / "student")])
    except SystemExit as refused:
        status = refused.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_a_side_that_a_unet_cannot_halve_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(publish_labels(tmp_path, 2))
    flags = ["--labels", output, "--architecture", "unet", "--image-size", "20", "--output", str(tmp_path / "student")]
    assert main(flags) == 2
    assert "image_size is 20, expected a multiple of 8 for a U-Net" in capsys.readouterr().err
