"""The calibration of a bundle's confidence: a separate file that is not hashed, so that `model_id` does not change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddpm_seg import storage
from ddpm_seg.json_text import json_digest, to_json
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.json_values import as_object, one_line
from ddpm_seg.tasks import Task

CALIBRATION = "calibration.json"
SCHEMA_VERSION = 1
LOWEST, HIGHEST = 0.01, 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Temperatures: probabilities become softmax(log p / T), with the T of the pixel's most probable class."""

    temperatures: tuple[float, ...]
    """One per class, in the task's order."""
    images: int
    """Number of annotated images that they were fitted on."""

    @property
    def digest(self) -> str:
        """12 hex digits, a hash of everything that changes probabilities."""
        return json_digest(list(self.temperatures))[:12]

    def encoded(self) -> bytes:
        """The content of the file."""
        content = {"temperatures": list(self.temperatures), "images": self.images}
        return to_json({"schema_version": SCHEMA_VERSION, **content}, indent=1)


def read_calibration(uri: str, task: Task | None) -> Calibration | None:
    """The calibration of the bundle at `uri`, or None. Raises BundleError if the file is damaged."""
    file = storage.join(uri, CALIBRATION)
    if task is None or not storage.exists(file):
        return None
    try:
        return _from_json(as_object(json.loads(storage.read_bytes(file)), CALIBRATION), task.num_classes)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{storage.redact(file)}: {one_line(error)}; train again, or delete it to do without"
        ) from error


def _from_json(content: Mapping[str, Any], classes: int) -> Calibration:
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {content.get('schema_version')!r}, expected {SCHEMA_VERSION}")
    temperatures, images = content.get("temperatures"), content.get("images")
    if not isinstance(temperatures, list) or len(temperatures) != classes or not all(map(_fits, temperatures)):
        raise ValueError(f"temperatures must be {classes} numbers from {LOWEST} to {HIGHEST}")
    if not isinstance(images, int) or isinstance(images, bool) or images < 1:
        raise ValueError(f"images is {images!r}, expected a number of at least 1")
    return Calibration(temperatures=tuple(map(float, temperatures)), images=images)


def _fits(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and LOWEST <= value <= HIGHEST
