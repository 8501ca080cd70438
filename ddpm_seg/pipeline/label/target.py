"""Finds the least confidence that keeps the error below --target-error, from annotated calibration images."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.checks import share
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.evaluation.scores.own_size import kept
from ddpm_seg.evaluation.scores.risk_control import (
    Threshold,
    check_enough,
    control_risk,
)
from ddpm_seg.fits import fit_of
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import chosen_ways
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.view import read_labels
from ddpm_seg.tasks import UNLABELLED

if TYPE_CHECKING:
    from ddpm_seg.model.trained import TrainedHeader

logger = logging.getLogger(__name__)

FOLDER, LISTED = "calibration", "annotated.parquet"
COLUMNS = ["uri", "status", "width", "height", "mask", "confidence_map"]


def find_threshold(config: LabelConfig, label: Callable[[LabelConfig], str]) -> Threshold | None:
    """The threshold for `config.target_error`; None if that is not set.

    Calls `label` to label the calibration images into a folder of the output; it returns their table's config_hash.
    They are labelled once, and give the same threshold every time. Before any work, raises ValueError
    (TooFewImagesError, AnnotationError) if they are too few for the target or cannot be read.
    """
    target = share(config.target_error)
    if target is None or config.calibration is None:
        return None
    header, task = read_trained_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    annotations = load_annotations(
        config.calibration,
        image_size=header.image_size,
        task=task,
        mode=fit_of(header.provenance, config.fit),
        own_size=True,
    )
    check_enough(len(annotations), target)
    found = control_risk(kept(_labels(config, header, annotations, label), annotations, task), target)
    logger.info("pixels below a confidence of %.3f become %d: %s", found.confidence / 255, UNLABELLED, found)
    return found


def describe_threshold(threshold: Threshold) -> dict[str, object]:
    """The threshold as a dictionary, for run.json and the report."""
    return {
        "guarantee": str(threshold),
        "target": threshold.target,
        "images": threshold.images,
        "least_confidence": threshold.confidence / 255,
        "kept": threshold.kept,
    }


def _labels(
    config: LabelConfig,
    header: TrainedHeader,
    annotations: Sequence[Annotation],
    label: Callable[[LabelConfig], str],
) -> pa.Table:
    folder = storage.join(config.output, FOLDER)
    listed = storage.join(folder, LISTED)
    storage.write_bytes(listed, encode(pa.table({"uri": [annotation.uri for annotation in annotations]})))
    own = dataclasses.replace(
        chosen_ways(config, header),
        input=listed,
        output=folder,
        maps=True,
        target_error=None,
        calibration=None,
        limit=None,
        active=None,
        max_errors=None,
        redo=None,
        retry_errors=False,
        uri_column=None,
        image_key=None,
        image_column=None,
    )
    return read_labels(folder, config_hash=label(own), columns=COLUMNS)
