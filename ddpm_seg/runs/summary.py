"""The files that describe a run to people: `run.json`, written when it begins, and `summary.json`, when it ends."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ddpm_seg import storage
from ddpm_seg.json_text import json_file
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.manifest import RunInfo
from ddpm_seg.runs.parquet import DamagedFileError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """Counts of the whole run, and times of its last attempt.

    `seconds` has "total" (wall time), and "read", "segment" and "write", summed over parallel tasks, for the
    `timed_images` that the last attempt worked on. The report adds `statistics` and `drift`
    (`evaluation/tables/drift.py`) to the file.
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
    computed_by: list[str]
    """The different answers of `model.kernels.checked.computed_by` on the last attempt's actors."""


def write_run_json(layout: RunLayout, info: RunInfo, details: dict[str, object]) -> None:
    """Writes the configuration and what it resolved to. A resumed run keeps the first file, if that can be read."""
    record = {**dataclasses.asdict(info), **details}
    if storage.create_bytes(layout.run_json, json_file(record)):
        return
    try:
        read_json(layout.run_json)
    except DamagedFileError as error:
        logger.warning("%s; writing it again", error)
        storage.write_bytes(layout.run_json, json_file(record))


def write_summary(layout: RunLayout, summary: RunSummary) -> None:
    """Writes the summary, except if this attempt did no work and an earlier one's exists: that one has the times."""
    if summary.timed_images or not _has_summary(layout):
        storage.write_bytes(layout.summary, json_file(dataclasses.asdict(summary)))


def _has_summary(layout: RunLayout) -> bool:
    """Whether a readable summary exists."""
    try:
        read_json(layout.summary)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


def read_json(uri: str) -> dict[str, Any]:
    """Reads a JSON object from a file of an output. Raises DamagedFileError if the content is anything else; errors of
    the storage, such as FileNotFoundError, pass through."""
    data = storage.read_bytes(uri)
    try:
        record = json.loads(data)
    except RecursionError:
        raise DamagedFileError(uri, "it is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError too
        raise DamagedFileError(uri, f"it is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DamagedFileError(uri, f"it holds a JSON {type(record).__name__}, expected an object")
    return record
