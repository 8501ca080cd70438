"""What the stages of jobs.label are told, for tests of single stages."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ddpm_seg.pipeline.label.rows import LabelSpec
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.tasks import Task


def label_spec(output: str, task: Task, **options: Any) -> LabelSpec:
    """The first run of an output, with a network of 16 x 16 pixels."""
    return LabelSpec(
        layout=RunLayout(output=output, table="labels", config_hash="c", run_id="run-000001"),
        created_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
        model_id="m",
        code_version="v",
        image_size=16,
        fit="letterbox",
        task=task,
        **options,
    )
