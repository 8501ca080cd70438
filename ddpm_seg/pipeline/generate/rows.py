"""The rows of the `samples` table, one per generated image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.image_labels import NotFiniteError, image_labels
from ddpm_seg.data.schema import samples_schema, uncertainty_map
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.pipeline.table_rows import NOT_FINITE, RowSpec, label_columns, outcome_columns
from ddpm_seg.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSpec(RowSpec):
    """What the tasks of a run need to know."""

    task: Task | None
    """None if the model has no ensemble; then samples are not labelled."""
    sampler: str
    """How the images are drawn."""
    sampling_steps: int
    """Evaluations of the network per image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleInput:
    """One row of the manifest."""

    image_id: str
    uri: str
    seed: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A drawn sample, or the error that prevented it."""

    source: SampleInput
    image: NDArray[np.uint8] | None = None
    """(S, S, 3) uint8."""
    label: PixelLabels | None = None
    error_type: str | None = None
    error_message: str | None = None


def sample_table(samples: Sequence[Sample], spec: SampleSpec) -> pa.Table:
    """The rows of `samples` for the table, in the same order."""
    return pa.Table.from_pylist([_row(sample, spec) for sample in samples], schema=samples_schema(spec.task))


def _row(sample: Sample, spec: SampleSpec) -> dict[str, Any]:
    error, found = (sample.error_type, sample.error_message), {}
    if sample.image is not None:
        try:
            found = _found(sample.image, sample.label, spec.task)
        except NotFiniteError:
            error = NOT_FINITE
    drawn = {"sampler": spec.sampler, "sampling_steps": spec.sampling_steps}
    return {**dataclasses.asdict(sample.source), **drawn, **outcome_columns(*error), **spec.columns(), **found}


def _found(image: NDArray[np.uint8], label: PixelLabels | None, task: Task | None) -> dict[str, Any]:
    height, width = image.shape[:2]
    found: dict[str, Any] = {"width": width, "height": height, "image": picture_cell(image)}
    if label is None or task is None:
        return found
    whole = Placement(left=0, top=0, width=width, height=height, image_width=width, image_height=height)
    labels = image_labels(label, whole, task.class_names)
    uncertainty = picture_cell(uncertainty_map(label.uncertainty, task.num_classes))
    return {**found, **label_columns(labels), "uncertainty_map": uncertainty}
