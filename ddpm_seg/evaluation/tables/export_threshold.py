"""The threshold on confidence for an export with a promised error, from labels that are there."""

from __future__ import annotations

import pyarrow.compute as pc

from ddpm_seg.checks import share
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.schema import MAPS
from ddpm_seg.evaluation.scores.own_size import kept
from ddpm_seg.evaluation.scores.risk_control import Threshold, check_enough, control_risk
from ddpm_seg.evaluation.tables.export_config import ExportConfig
from ddpm_seg.evaluation.tables.selection import Selection
from ddpm_seg.runs.manifest import image_id, stored_uri
from ddpm_seg.runs.parquet import open_parquet
from ddpm_seg.runs.view import read_labels

CONFIDENCE = MAPS[0]
ANY_SIZE = 64
"""The masks are compared at their own size: what a network would see is of no interest."""


def find_threshold(config: ExportConfig, selection: Selection) -> Threshold | None:
    """The threshold for `config.target_error`; None without one.

    Raises ValueError (TooFewImagesError, AnnotationError) if the labels or the calibration images cannot promise it.
    """
    target = share(config.target_error)
    if target is None or config.calibration is None or config.labels is None or selection.task is None:
        return None
    with open_parquet(selection.configuration.shards[0]) as file:
        if CONFIDENCE not in file.schema_arrow.names:
            raise ValueError("--target-error needs each pixel's confidence: label again with ddpm-seg label --maps")
    annotations = load_annotations(config.calibration, image_size=ANY_SIZE, task=selection.task, own_size=True)
    check_enough(len(annotations), target)
    labels = read_labels(
        config.labels,
        config_hash=selection.configuration.config_hash,
        columns=["image_id", "uri", "status", "width", "height", "mask", CONFIDENCE],
        image_ids=[image_id(stored_uri(one.uri)) for one in annotations],
    )
    return control_risk(kept(labels.filter(pc.is_valid(labels["uri"])), annotations, selection.task), target)
