"""The columns that the tables `labels` and `samples` share: the row's run, its outcome, and what the image shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ddpm_seg.data.image_labels import ImageLabels
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.runs.layout import RunLayout

NOT_FINITE = "not_finite", "the network's output is not finite; try --dtype float32 or bfloat16"
"""Error type and message for an image whose network output overflowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSpec:
    """What every row of a run says about the run. It is sent to the workers, so it contains no credentials."""

    layout: RunLayout
    created_at: datetime
    model_id: str
    code_version: str

    def columns(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "config_hash": self.layout.config_hash,
            "code_version": self.code_version,
            "run_id": self.layout.run_id,
            "created_at": self.created_at,
        }


def outcome_columns(error_type: str | None, error_message: str | None) -> dict[str, Any]:
    return {"status": "error" if error_type else "ok", "error_type": error_type, "error_message": error_message}


def label_columns(labels: ImageLabels) -> dict[str, Any]:
    return {
        "mask": picture_cell(labels.mask),
        "uncertainty": labels.statistics.uncertainty,
        "mean_confidence": labels.statistics.mean_confidence,
        "classes": [dataclasses.asdict(one) for one in labels.statistics.classes],
    }
