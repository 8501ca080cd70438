"""Which way of enlarging an output goes on with."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.bundle.ensemble_bundle import read_header, save_bundle
from ddpm_seg.notebook import load
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import hash_config, plan_label
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.manifest import Manifest, RunInfo, create_manifest, inputs_table, plan
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def config(tmp_path: Path) -> LabelConfig:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    return LabelConfig(model=str(tmp_path / "model"), output=str(tmp_path / "out"))


def add_run(config: LabelConfig, number: int, options: dict[str, object]) -> None:
    """The manifest of a run without images."""
    layout = RunLayout(output=config.output, table="labels", config_hash="x", run_id=f"run-{number:06d}")
    info = RunInfo(
        run_id=layout.run_id,
        config_hash="x",
        created_at=datetime.now(timezone.utc),
        config={**options, "chunk_size": 1},
    )
    assert create_manifest(layout, Manifest(info=info, items=plan(inputs_table([]), 1, 1)))


BEFORE: dict[str, object] = {"fit": "letterbox"}
"""Options of a run of labels from before there was a choice."""


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], "bilinear"),
        ([BEFORE], "nearest"),
        ([BEFORE | {"resize": "bilinear"}], "bilinear"),
        ([BEFORE | {"resize": "nearest"}], "nearest"),
        ([BEFORE, BEFORE | {"resize": "bilinear"}], "bilinear"),
        ([BEFORE, {"steps": 20}], "nearest"),
        ([{"steps": 20}], "bilinear"),
    ],
    ids=["new", "old", "bilinear", "nearest", "told otherwise", "samples later", "samples"],
)
def test_an_output_goes_on_as_it_was_begun(config: LabelConfig, runs: list[dict[str, object]], expected: str) -> None:
    for number, options in enumerate(runs, start=1):
        add_run(config, number, options)
    found = plan_label(config)
    assert found.config.resize == expected
    assert f"resize     {expected}" in str(found)
    assert found.run.config_hash == hash_config(replace(config, resize=expected), read_header(config.model))


def test_what_is_asked_for_counts(config: LabelConfig) -> None:
    add_run(config, 1, BEFORE)
    assert plan_label(replace(config, resize="bilinear")).config.resize == "bilinear"
    assert plan_label(replace(config, output=config.output + "2", resize="nearest")).config.resize == "nearest"


def test_tiles_are_hashed_and_come_in_small_chunks(config: LabelConfig) -> None:
    plain, header = replace(config, resize="bilinear"), read_header(config.model)
    hashes = {hash_config(replace(plain, tile=scale), header) for scale in (None, 0.5, 1.0)}
    assert len(hashes) == 3
    found = plan_label(replace(config, tile=0.5))
    assert "tile       squares of 16 at scale 0.5" in str(found)
    assert found.config.chunk_size == 4


@pytest.mark.parametrize("scale", [0, -1, 1.5])
def test_a_scale_that_cannot_be_is_refused(config: LabelConfig, scale: float) -> None:
    with pytest.raises(ValueError, match="--tile must be a scale above 0 and at most 1"):
        replace(config, tile=scale)
    with pytest.raises(ValueError, match="leave out --average shifts"):
        replace(config, tile=1, average="shifts")


@pytest.mark.parametrize("option", [{"refine": "bilateral"}, {"average": "mirror"}, {"average": "shifts"}], ids=str)
def test_only_what_is_used_is_hashed(config: LabelConfig, option: dict[str, Any]) -> None:
    plain, header = replace(config, resize="bilinear"), read_header(config.model)
    name = next(iter(option))
    assert hash_config(replace(plain, **{name: "none"}), header) == hash_config(plain, header)
    assert hash_config(replace(plain, **option), header) != hash_config(plain, header)
    assert f"{name:<11}{option[name]}" in str(plan_label(replace(config, **option)))


def test_a_bundle_says_how_it_was_tuned(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    assert bundle.features is not None
    features = replace(bundle.features, refine="guided", average="mirror")
    save_bundle(replace(bundle, features=features), str(tmp_path / "tuned"))
    assert read_header(str(tmp_path / "tuned")).features == features
    config = LabelConfig(model=str(tmp_path / "tuned"), output=str(tmp_path / "out"))
    found = plan_label(config).config
    assert (found.resize, found.refine, found.average) == ("bilinear", "guided", "mirror")
    found = plan_label(replace(config, refine="none", average="none")).config
    assert (found.resize, found.refine, found.average) == ("bilinear", "none", "none")
    found = plan_label(replace(config, resize="nearest")).config
    assert (found.resize, found.refine, found.average) == ("nearest", "none", "mirror")
    notebook = load(tmp_path / "tuned")
    assert (notebook.resize, notebook.refine, type(notebook.segmenter)) == ("bilinear", "guided", Averaged)


def test_refining_works_on_probabilities(config: LabelConfig) -> None:
    add_run(config, 1, BEFORE)
    found = plan_label(replace(config, refine="guided"))
    assert found.config.resize == "bilinear"
    assert found.run.config_hash != plan_label(replace(config, resize="bilinear")).run.config_hash
    with pytest.raises(ValueError, match="leave out --resize nearest"):
        replace(config, refine="guided", resize="nearest")
