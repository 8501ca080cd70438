"""What people read about a run: `run.json` when it begins, `summary.json` as the last file when it ends."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.manifest import RunInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """Counts of the whole run, and times of its last attempt.

    `seconds` has "total" (wall time) and, summed over tasks that ran side by side, "read", "segment" and "write" of the
    `timed_images` that this attempt worked on. The report adds `statistics` and `drift` (`evaluation/drift.py`) to
    the file.
    """

    run_id: str
    config_hash: str
    images: int
    ok: int
    errors: dict[str, int]
    shards: int
    started_at: datetime
    finished_at: datetime
    timed_images: int
    images_per_hour: float | None
    seconds: dict[str, float]


def write_run_json(layout: RunLayout, info: RunInfo, details: dict[str, object]) -> None:
    """The configuration and what it resolved to; a resumed run keeps the first."""
    record = {**dataclasses.asdict(info), **details}
    storage.create_bytes(layout.run_json, _as_json(record))


def write_summary(layout: RunLayout, summary: RunSummary) -> None:
    write_json(layout.summary, dataclasses.asdict(summary))


def write_json(uri: str, record: Mapping[str, object]) -> None:
    storage.write_bytes(uri, _as_json(record))


def _as_json(record: Mapping[str, object]) -> bytes:
    return (json.dumps(record, indent=2, default=_plain) + "\n").encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot store {type(value).__name__} as JSON")
