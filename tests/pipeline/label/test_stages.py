"""The stages of the label job, without Ray."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.canvas import fit
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.tiles import segment_tiles
from ddpm_seg.model.views import finer
from ddpm_seg.notebook import load
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput
from ddpm_seg.pipeline.label.stages import Segment, fetch_and_decode, tabulate
from tests.label_spec import label_spec
from tests.tiny_bundle import TASK, tiny_bundle


def _fitted(index: int) -> FittedImage:
    source = ImageInput(image_id=str(index), uri=f"/{index}", read_uri=f"/{index}", etag=None, size_bytes=1)
    picture = np.random.default_rng(index).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    canvas, placement = fit(picture, 16)
    return FittedImage(source=source, canvas=canvas, placement=placement)


def _broken(index: int) -> FittedImage:
    return dataclasses.replace(_fitted(index), canvas=None, placement=None, error_type="empty", error_message="empty")


def _segment(uri: str, images: list[FittedImage]):
    row = {"shard": 0, "chunk": 0, "payload": pickle.dumps(images), "read_seconds": 0.0}
    done = Segment(uri, dtype="float32", batch_size=None, threads=1)(row)
    return pickle.loads(done["payload"])


@pytest.mark.parametrize("broken", [[], [1], [0, 2], [0, 1, 2]])
def test_every_image_keeps_its_place_whatever_is_broken(tmp_path, broken) -> None:
    save_bundle(tiny_bundle(), str(tmp_path))
    whole = _segment(str(tmp_path), [_fitted(index) for index in range(3)])[1]
    images, labels = _segment(str(tmp_path), [(_broken if i in broken else _fitted)(i) for i in range(3)])
    assert [image.source.image_id for image in images] == ["0", "1", "2"]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        assert image.canvas is None
        assert (label is None) == (image.error_type == "empty") == (index in broken)
        if label is not None:
            assert np.array_equal(label.label, whole[index].label)


def test_a_network_that_overflows_gives_error_rows_and_no_masks(tmp_path) -> None:
    bundle = tiny_bundle()
    weights = {key: value * 1e30 for key, value in bundle.weights.items()}
    save_bundle(dataclasses.replace(bundle, weights=weights), str(tmp_path))
    row = {"shard": 0, "chunk": 0, "payload": pickle.dumps([_fitted(0), _broken(1), _fitted(2)])}
    spec = label_spec(str(tmp_path), TASK)
    table = tabulate(Segment(str(tmp_path), dtype="float32", batch_size=None, threads=1)(row), spec)
    assert table["error_type"].to_pylist() == ["not_finite", "empty", "not_finite"]
    assert table["status"].to_pylist() == ["error"] * 3
    assert "try --dtype float32 or bfloat16" in table["error_message"][0].as_py()
    assert table["mask"].null_count == table["width"].null_count == table["classes"].null_count == 3


@pytest.mark.parametrize("average", ["none", "mirror", "shifts"])
@pytest.mark.parametrize(("resize", "refine"), [("nearest", "none"), ("bilinear", "none"), ("bilinear", "bilateral")])
def test_the_notebook_gives_the_same_masks(tmp_path, average, resize, refine) -> None:
    model, folder = str(tmp_path / "model"), tmp_path / "images"
    save_bundle(tiny_bundle(), model)
    folder.mkdir()
    paths = [str(folder / f"{number}.png") for number in range(3)]
    for number, (path, size) in enumerate(zip(paths, [(40, 30), (16, 16), (7, 90)], strict=True)):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    sources = [ImageInput(image_id=uri, uri=uri, read_uri=uri, etag=None, size_bytes=1) for uri in paths]
    spec = label_spec(str(tmp_path), TASK, resize=resize, refine=refine, finer=finer(average))
    row = fetch_and_decode({"shard": 0, "chunk": 0, "payload": pickle.dumps(sources)}, spec)
    table = tabulate(Segment(model, dtype="float32", batch_size=None, threads=1, average=average)(row), spec)
    expected = load(model, resize=resize, refine=refine, average=average)(list(paths))
    for row, one in zip(table.to_pylist(), expected, strict=True):
        np.testing.assert_array_equal(row_mask(row), one.mask)
        assert row["uncertainty"] == pytest.approx(one.uncertainty, rel=1e-4)
        assert one.probabilities.shape == (5, *one.mask.shape)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_tiles_follow_an_image_that_is_larger_than_the_network_sees(tmp_path, scale) -> None:
    model, image = str(tmp_path / "model"), str(tmp_path / "0.png")
    save_bundle(tiny_bundle(), model)
    picture = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(picture).save(image)
    source = ImageInput(image_id="0", uri=image, read_uri=image, etag=None, size_bytes=1)
    spec = label_spec(str(tmp_path), TASK, resize="bilinear", tile=scale, maps=True)
    row = fetch_and_decode({"shard": 0, "chunk": 0, "payload": pickle.dumps([source])}, spec)
    row = Segment(model, dtype="float32", batch_size=None, threads=1, tiles=True)(row)
    (_, (found,)) = pickle.loads(row["payload"])
    (row,) = tabulate(row, spec).to_pylist()
    size = (round(60 * scale), round(90 * scale))
    assert found.label.shape == size
    canvas = fit(picture, size)[0]
    np.testing.assert_array_equal(found.label, segment_tiles(Segmenter(tiny_bundle()), [canvas])[0].label)
    np.testing.assert_array_equal(row_mask(row), load(model, tile=scale)(picture).mask)
    assert row_mask(row).shape == (60, 90)
    if scale == 1:
        np.testing.assert_array_equal(row_mask(row), found.label)
    assert sum(one["pixels"] for one in row["classes"]) == 60 * 90


def test_the_processes_that_read_and_write_need_no_torch() -> None:
    # A worker of Ray takes 180 MB with what this imports, and 360 MB with torch.
    code = "import sys, ddpm_seg.pipeline.label.stages, ddpm_seg.pipeline.stream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
