"""The rows of the `samples` table: one a generated image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ddpm_seg.data.images import Placement
from ddpm_seg.data.schema import samples_schema, uncertainty_map
from ddpm_seg.data.statistics import image_statistics
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.sampling import SamplingConfig
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSpec:
    """What every task of a run needs to know."""

    layout: RunLayout
    created_at: datetime
    model_id: str
    code_version: str
    task: Task | None
    """None where the model has no ensemble: samples are not labelled then."""
    sampling: SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleInput:
    """One row of the manifest."""

    image_id: str
    uri: str
    seed: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What became of one."""

    source: SampleInput
    image: np.ndarray | None = None
    """(S, S, 3) uint8."""
    label: PixelLabels | None = None
    error_type: str | None = None
    error_message: str | None = None


def sample_table(samples: Sequence[Sample], spec: SampleSpec) -> pa.Table:
    """`samples` rows in their order."""
    return pa.Table.from_pylist([_row(sample, spec) for sample in samples], schema=samples_schema(spec.task))


def _row(sample: Sample, spec: SampleSpec) -> dict[str, Any]:
    row: dict[str, Any] = {
        **dataclasses.asdict(sample.source),
        "sampler": spec.sampling.sampler,
        "sampling_steps": spec.sampling.steps,
        "status": "error" if sample.error_type else "ok",
        "error_type": sample.error_type,
        "error_message": sample.error_message,
        "model_id": spec.model_id,
        "config_hash": spec.layout.config_hash,
        "code_version": spec.code_version,
        "run_id": spec.layout.run_id,
        "created_at": spec.created_at,
    }
    if sample.image is None or sample.error_type:
        return row
    height, width = sample.image.shape[:2]
    row |= {"width": width, "height": height, "image": picture_cell(sample.image)}
    if sample.label is None or spec.task is None:
        return row
    label = sample.label
    whole = Placement(left=0, top=0, width=width, height=height, image_width=width, image_height=height)
    statistics = image_statistics(
        label.label, label.uncertainty, label.confidence, label.label, whole, spec.task.class_names
    )
    return row | {
        "mask": picture_cell(label.label),
        "uncertainty_map": picture_cell(uncertainty_map(label.uncertainty, spec.task.num_classes)),
        "uncertainty": statistics.uncertainty,
        "mean_confidence": statistics.mean_confidence,
        "classes": [dataclasses.asdict(one) for one in statistics.classes],
    }
