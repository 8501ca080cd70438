"""`ddpm_seg.load` as a notebook uses it."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.decoding.images import ImageError, decode
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.segmenter import Segmenter
from tests.tiny_bundle import tiny_bundle


@pytest.fixture(scope="module")
def bundle_uri(tmp_path_factory) -> str:
    uri = str(tmp_path_factory.mktemp("bundle") / "tiny")
    save_bundle(tiny_bundle(), uri)
    return uri


@pytest.fixture(scope="module")
def segmenter(bundle_uri):
    return ddpm_seg.load(bundle_uri)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (30, 47, 3), dtype=np.uint8)


def test_path_array_and_pil_image_give_the_same_result(segmenter, picture, tmp_path) -> None:
    Image.fromarray(picture).save(tmp_path / "x.png")
    results = segmenter([str(tmp_path / "x.png"), tmp_path / "x.png", Image.fromarray(picture), picture])
    for result in results:
        assert np.array_equal(result.mask, results[0].mask)
        assert result.uncertainty == results[0].uncertainty
    assert np.array_equal(segmenter(picture).mask, results[0].mask)


def test_masks_and_maps_have_the_image_s_own_size(segmenter, picture) -> None:
    result = segmenter(picture)
    assert result.mask.shape == result.uncertainty_map.shape == (30, 47)
    assert result.probabilities.shape == (segmenter.task.num_classes, 30, 47)
    assert np.allclose(result.probabilities.sum(0), 1, atol=1e-5)
    assert sum(entry.pixels for entry in result.statistics.classes) == 30 * 47


def test_a_result_says_what_it_is(segmenter, picture) -> None:
    result = segmenter(picture)
    largest = max(result.statistics.classes, key=lambda entry: entry.pixels)
    assert repr(result).startswith("Segmentation(47 x 30 pixels, uncertainty ")
    assert f": {largest.class_name} " in repr(result)


def test_the_overlay_is_a_picture_that_can_be_saved(segmenter, picture, tmp_path) -> None:
    segmenter(picture).overlay().save(tmp_path / "result.png")
    assert Image.open(tmp_path / "result.png").size == (47, 30)
    assert segmenter(picture).colors().size == (47, 30)


def test_a_saved_mask_holds_class_ids_in_the_tasks_colours(segmenter, picture, tmp_path) -> None:
    result = segmenter(picture)
    result.save(tmp_path / "mask.png")
    saved = Image.open(tmp_path / "mask.png")
    assert np.array_equal(np.asarray(saved), result.mask)
    assert np.array_equal(np.asarray(saved.convert("RGB")), np.asarray(result.colors()))
    with pytest.raises(ValueError, match=r"saved as \.png, got .*mask\.jpg"):
        result.save(tmp_path / "mask.jpg")


@pytest.mark.parametrize("shape", [(30, 47, 3), (900, 500, 3), (1, 1, 3)])
def test_a_notebook_shows_image_mask_and_classes(segmenter, shape) -> None:
    result = segmenter(np.full(shape, 200, np.uint8))
    page = result._repr_html_()
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", page)]
    sizes = [(int(width), int(height)) for width, height in re.findall(r'width="(\d+)" height="(\d+)"', page)]
    assert len(pictures) == len(sizes) == 2
    for data, size in zip(pictures, sizes, strict=True):
        width, height = Image.open(io.BytesIO(data)).size
        assert max(size) == 320
        assert (width, height) == (shape[1], shape[0]) or (width, height) == size
    for entry in result.statistics.classes:
        assert f"<td>{entry.class_name}</td><td>{entry.fraction:.1%}</td>" in page


def test_a_class_name_is_shown_as_text(tmp_path) -> None:
    bundle = tiny_bundle()
    names = ("<b>bold</b>", *bundle.task.class_names[1:])
    save_bundle(dataclasses.replace(bundle, task=dataclasses.replace(bundle.task, class_names=names)), str(tmp_path))
    page = ddpm_seg.load(tmp_path)(np.zeros((64, 64, 3), np.uint8))._repr_html_()
    assert "<b>" not in page


def test_a_model_says_what_it_knows(segmenter) -> None:
    shown = repr(segmenter)
    assert f"{segmenter.task.name}: {segmenter.task.num_classes} classes ({segmenter.task.class_names[0]}" in shown
    assert shown.endswith("on cpu)")


def test_the_lines_of_the_package_s_readme_run(tmp_path, monkeypatch, picture) -> None:
    readme = (Path(ddpm_seg.__file__).parent / "README.md").read_text()
    block = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load(" in block)
    Image.fromarray(picture).save(tmp_path / "portrait.png")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert Image.open(tmp_path / "result.png").size == Image.open(tmp_path / "mask.png").size == (47, 30)


def test_the_mask_is_the_segmenter_s_own(bundle_uri, segmenter, picture) -> None:
    size = load_bundle(bundle_uri).network.image_size
    square = picture[:30, :30]
    canvas, _ = fit(square, size)
    label = Segmenter(load_bundle(bundle_uri)).segment(canvas[None])[0].label
    assert set(np.unique(segmenter(square).mask)) <= set(np.unique(label))
    at_size = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR))
    assert np.array_equal(segmenter(at_size).mask, label)


def test_an_oriented_pil_image_is_turned_upright_as_its_file_is(segmenter, picture, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    upright = decode((tmp_path / "turned.png").read_bytes())
    assert upright.shape == (47, 30, 3)
    assert np.array_equal(segmenter(Image.open(tmp_path / "turned.png")).image, upright)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int32"])
def test_a_deep_pil_image_is_converted_as_its_file_is(segmenter, picture, tmp_path, dtype) -> None:
    grey = picture[:, :, 0].astype(np.float64) / 255
    image = Image.fromarray((grey * (1 if dtype == "float32" else 65535)).astype(dtype))
    image.save(tmp_path / "deep.tif")
    from_file = segmenter(tmp_path / "deep.tif")
    assert np.array_equal(segmenter(image).image, from_file.image)
    assert np.array_equal(segmenter(image).mask, from_file.mask)
    assert np.array_equal(segmenter(Image.open(tmp_path / "deep.tif")).image, from_file.image)


@pytest.mark.parametrize("image", [3, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_image_is_refused_by_type(segmenter, image) -> None:
    with pytest.raises(TypeError, match=r"uint8"):
        segmenter(image)


@pytest.mark.parametrize("side", [16, 40])  # 16 is the network's own side: nothing is resized
def test_a_result_stays_as_it_is_if_the_caller_reuses_the_array(segmenter, side) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    before, result = segmenter(frame.copy()), segmenter(frame)
    frame[:] = 0
    assert np.array_equal(result.image, before.image)
    assert np.array_equal(result.probabilities, before.probabilities)
    assert np.array_equal(np.asarray(result.overlay()), np.asarray(before.overlay()))


@pytest.mark.parametrize("option", ["dtype", "resize", "refine", "average", "fit"])
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(bundle_uri, option) -> None:
    with pytest.raises(ValueError, match=rf"^{option} must be one of \w+, .*, got 'Bilinear'"):
        ddpm_seg.load(bundle_uri, **{option: "Bilinear"})


def test_the_bad_file_of_a_list_is_named(segmenter, picture, tmp_path) -> None:
    Image.fromarray(picture).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png: not an image of a known format"):
        segmenter([tmp_path / "good.png", tmp_path / "bad.png"])


def test_an_empty_list_gives_an_empty_list(segmenter) -> None:
    assert segmenter([]) == []


def test_a_bundle_that_is_not_there_is_named_with_those_in_the_box() -> None:
    with pytest.raises(BundleError, match=r"no model bundle at .*nowhere"):
        ddpm_seg.load("nowhere")


@pytest.mark.parametrize("average", ["none", "mirror"])
@pytest.mark.parametrize("tile", [0.5, 1])
def test_tiles_have_the_probabilities_behind_their_mask(bundle_uri, picture, tile, average) -> None:
    result = ddpm_seg.load(bundle_uri, tile=tile, average=average)(picture)
    assert result.probabilities.shape == (result.task.num_classes, 30, 47)
    assert np.allclose(result.probabilities.sum(0), 1, atol=1e-5)
    assert (result.probabilities.argmax(axis=0) == result.mask).mean() > (0.999 if tile == 1 else 0.95)
    assert not np.array_equal(result.mask, ddpm_seg.load(bundle_uri, average=average)(picture).mask)


def test_an_image_smaller_than_a_tile_is_segmented_as_without_tiles(bundle_uri, segmenter, picture) -> None:
    small = ddpm_seg.load(bundle_uri, tile=0.1)(picture[:30, :30])
    assert np.array_equal(small.mask, segmenter(picture[:30, :30]).mask)
    assert np.array_equal(small.probabilities, segmenter(picture[:30, :30]).probabilities)


@pytest.mark.parametrize("tile", [0, -1, 1.5, float("nan")])
def test_a_scale_of_tiles_outside_its_range_is_refused(bundle_uri, tile) -> None:
    with pytest.raises(ValueError, match=r"^tile must be a scale above 0 and at most 1"):
        ddpm_seg.load(bundle_uri, tile=tile)


def test_tiles_do_not_take_shifts(bundle_uri) -> None:
    with pytest.raises(ValueError, match="leave out average shifts"):
        ddpm_seg.load(bundle_uri, tile=1, average="shifts")
