"""--target-error: the threshold that calibration images give, what it leaves out, and what is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.image_labels import image_labels
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.evaluation.scores.risk_control import Threshold, TooFewImagesError
from ddpm_seg.model.bundle.ensemble_bundle import read_header, save_bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.pipeline.label import target
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import hash_config, plan_label
from ddpm_seg.pipeline.label.target import describe_threshold, find_threshold
from tests.tiny_bundle import TASK, tiny_bundle

NUMBER = 12


@pytest.fixture
def config(tmp_path: Path) -> LabelConfig:
    """Images that are annotated with what the model says of them; where it is least sure, with something else."""
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    draw, segmenter = np.random.default_rng(0), Segmenter(tiny_bundle())
    (tmp_path / "known").mkdir()
    for index in range(NUMBER):
        image = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        canvas, placement = fit(image, segmenter.image_size)
        (answer,) = segmenter.segment(canvas[None])
        said = image_labels(answer, placement, TASK.class_names, "bilinear")
        doubtful = said.confidence < np.quantile(said.confidence, 0.3)
        mask = np.where(doubtful, (said.mask + 1) % TASK.num_classes, said.mask)
        Image.fromarray(image).save(tmp_path / "known" / f"{index}.png")
        np.save(tmp_path / "known" / f"{index}.npy", mask)
    return LabelConfig(
        model=str(tmp_path / "model"),
        output=str(tmp_path / "out"),
        target_error="10%",
        calibration=str(tmp_path / "known"),
    )


def in_this_process(config: LabelConfig, monkeypatch: pytest.MonkeyPatch) -> Threshold:
    """The threshold, with the calibration images labelled here instead of on a cluster."""
    rows: list[dict[str, Any]] = []

    def label(own: LabelConfig) -> str:
        assert own.maps
        assert (own.target_error, own.calibration) == (None, None)
        assert own.resize is not None
        segmenter = Segmenter(tiny_bundle())
        for uri in sorted(Path(str(config.calibration)).glob("*.png")):
            image = np.asarray(Image.open(uri))
            canvas, placement = fit(image, segmenter.image_size)
            (answer,) = segmenter.segment(canvas[None])
            said = image_labels(answer, placement, TASK.class_names, own.resize)
            row = {"uri": storage.normalize(str(uri)), "status": "ok", "width": 40, "height": 30}
            rows.append({**row, "mask": picture_cell(said.mask), "confidence_map": picture_cell(said.confidence)})
        return "x"

    monkeypatch.setattr(target, "read_labels", lambda *_, **__: target.pa.Table.from_pylist(rows))
    found = find_threshold(config, label)
    assert found is not None
    return found


def test_what_is_doubtful_is_left_out(config: LabelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    found = in_this_process(config, monkeypatch)
    assert (found.images, found.target) == (NUMBER, 0.1)
    assert 0.5 < found.kept < 0.95  # 30 % are wrong, and some 2 % may be: the bound of 12 images
    about = describe_threshold(found)
    assert "12 calibration images" in str(about["guarantee"])
    assert about["least_confidence"] == found.confidence / 255
    plan = plan_label(config, found)
    assert plan.threshold == found
    header = read_header(config.model)
    assert plan.run.config_hash == hash_config(plan.config, header, found) != hash_config(plan.config, header)


INHERITED = {
    *("model", "expect_model_id", "fit", "resize", "refine", "average", "tile", "dtype"),  # what decides the masks
    *("batch_size", "chunk_size", "shard_size", "compile", "num_actors", "gpus_per_actor", "wait_for_gpus"),
    *("check_versions", "allow_local_hosts", "dry_run", "price_per_hour"),
}
"""The options of the whole call that also hold for labelling its calibration images."""


def test_options_about_the_input_are_not_those_of_the_calibration_images(
    config: LabelConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[LabelConfig] = []
    set_ones = {"redo": str(tmp_path / "redo.txt"), "uri_column": "image_url", "image_key": "jpg", "limit": 3}
    set_ones |= {"image_column": "photo", "retry_errors": True, "active": 2, "max_errors": "1%", "input": "s3://b/in"}
    whole = replace(config, **set_ones)
    monkeypatch.setattr(target, "read_labels", lambda *_, **__: pytest.fail("known"))
    with pytest.raises(pytest.fail.Exception, match="known"):
        find_threshold(whole, lambda own: seen.append(own) or "x")  # type: ignore[func-returns-value]
    (own,) = seen
    plain, names = LabelConfig(), {field.name for field in fields(LabelConfig)}
    assert names - INHERITED == {*set_ones, "output", "maps", "target_error", "calibration"}, "a new one: which is it?"
    for name in names - INHERITED - {"input", "output", "maps"}:
        assert getattr(own, name) == getattr(plain, name), name
    assert (own.output, own.maps) == (f"{config.output}/calibration", True)
    assert plan_label(own).images == NUMBER


def test_masks_have_no_class_where_confidence_is_low() -> None:
    segmenter, draw = Segmenter(tiny_bundle()), np.random.default_rng(1)
    for height, width in ((40, 30), (16, 16)):
        canvas, placement = fit(draw.integers(0, 256, (height, width, 3), dtype=np.uint8), segmenter.image_size)
        (answer,) = segmenter.segment(canvas[None])
        every = image_labels(answer, placement, TASK.class_names, "bilinear")
        least = int(np.median(every.confidence)) + 1
        kept = image_labels(answer, placement, TASK.class_names, "bilinear", least_confidence=least)
        np.testing.assert_array_equal(kept.mask, np.where(every.confidence >= least, every.mask, 255))
        assert sum(one.pixels for one in kept.statistics.classes) == (kept.mask != 255).sum() < kept.mask.size
        assert not (image_labels(answer, placement, TASK.class_names, least_confidence=256).mask != 255).any()


def test_too_few_images_are_refused_before_any_work(config: LabelConfig) -> None:
    config = LabelConfig(model=config.model, output=config.output, target_error="1%", calibration=config.calibration)
    with pytest.raises(TooFewImagesError, match="at least 99 calibration images, but there are 12"):
        find_threshold(config, lambda _: pytest.fail("labelled"))
    assert not Path(config.output).exists()


def test_without_a_target_there_is_no_threshold(config: LabelConfig) -> None:
    assert find_threshold(LabelConfig(model=config.model), lambda _: pytest.fail("labelled")) is None


@pytest.mark.parametrize("text", ["1", "0.01", "0%", "100%", "-1%", "1 %", "%", ""])
def test_a_target_is_a_share(text: str) -> None:
    with pytest.raises(ValueError, match=r"--target-error must be a percentage such as 1%"):
        LabelConfig(target_error=text, calibration="images")


def test_a_target_needs_images_and_a_run(config: LabelConfig) -> None:
    for options in ({"target_error": "1%"}, {"calibration": "images"}):
        with pytest.raises(ValueError, match="need each other"):
            LabelConfig(**options)
    with pytest.raises(ValueError, match="no --dry-run"):
        plan_label(config)
