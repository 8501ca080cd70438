"""Rows of samples: an image with its labels, an image without, or an error, and never half of one."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest

from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.pipeline.generate.rows import Sample, SampleInput, SampleSpec, sample_table
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.tasks import Task
from tests.tiny_bundle import TASK

SIZE = 8


def spec(task: Task | None) -> SampleSpec:
    return SampleSpec(
        layout=RunLayout(output="out", table="samples", config_hash="c", run_id="run-000001"),
        created_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
        model_id="m",
        code_version="v",
        task=task,
        sampler="ddim",
        sampling_steps=7,
    )


def sample(number: int, *, labelled: bool, uncertainty: float = 0.1) -> Sample:
    labels = PixelLabels(
        label=np.zeros((SIZE, SIZE), np.uint8),
        uncertainty=np.full((SIZE, SIZE), uncertainty, np.float32),
        confidence=np.ones((SIZE, SIZE), np.float32),
    )
    source = SampleInput(image_id=str(number), uri=f"sample:0/{number}", seed=0, number=number)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    return Sample(source=source, image=image, label=labels if labelled else None)


def test_samples_with_labels_and_without() -> None:
    (row,) = sample_table([sample(0, labelled=True)], spec(TASK)).to_pylist()
    assert (row["status"], row["error_type"], row["width"], row["height"]) == ("ok", None, SIZE, SIZE)
    assert (row["sampler"], row["sampling_steps"], row["seed"], row["number"]) == ("ddim", 7, 0, 0)
    assert (row["model_id"], row["config_hash"], row["run_id"], row["code_version"]) == ("m", "c", "run-000001", "v")
    assert row["uncertainty"] == pytest.approx(0.1)
    assert [one["pixels"] for one in row["classes"]] == [SIZE * SIZE]
    assert all(row[name]["bytes"].startswith(b"\x89PNG") for name in ("image", "mask", "uncertainty_map"))
    (row,) = sample_table([sample(0, labelled=False)], spec(None)).to_pylist()
    assert row["status"] == "ok"
    assert row["image"]["bytes"].startswith(b"\x89PNG")
    assert "mask" not in row or row["mask"] is None


def test_a_sample_whose_labels_overflowed_is_an_error_without_pictures() -> None:
    rows = sample_table(
        [sample(0, labelled=True, uncertainty=np.nan), sample(1, labelled=True)], spec(TASK)
    ).to_pylist()
    assert [row["status"] for row in rows] == ["error", "ok"]
    assert (rows[0]["error_type"], rows[0]["number"]) == ("not_finite", 0)
    assert rows[0]["image"] is rows[0]["mask"] is rows[0]["uncertainty_map"] is rows[0]["width"] is None
