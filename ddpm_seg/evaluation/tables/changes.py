"""Compares the masks of two models, or of two settings of one model, on the same images, pixel by pixel."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.inputs.labelled_image import VERSION, is_another
from ddpm_seg.data.table_pictures import cell_bytes, row_mask
from ddpm_seg.evaluation.tables.changes_config import ChangesConfig
from ddpm_seg.evaluation.tables.selection import read_task
from ddpm_seg.progress import track
from ddpm_seg.runs.ledger import find_runs
from ddpm_seg.runs.parquet import read_columns, read_rows
from ddpm_seg.runs.view import configurations, current_rows
from ddpm_seg.tasks import Task

SHOWN = 60

_COLUMNS = ["image_id", "uri", *VERSION, "width", "height", "uncertainty", "mask"]

_SETTINGS = ("fit", "dtype", "resize", "refine", "average", "tile", "target_error")

Place = tuple[int, int]
"""Number of a shard and of a row in it."""

Shards = list[tuple[str, NDArray[np.bool_]]]
"""As `view.current_rows` returns them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedImage:
    """An image whose mask changed, with both masks (PNG)."""

    uri: str
    etag: str | None
    size_bytes: int | None
    width: int
    height: int
    uncertainty: float
    """Uncertainty with the new mask, in nats."""
    share: float
    """Fraction of the pixels whose class changed."""
    masks: tuple[bytes, bytes]
    """Before and after."""


@dataclass(kw_only=True, slots=True)
class Changes:
    """What changed from the configuration `before` to `after`."""

    before: str
    after: str
    task: Task
    names: tuple[str, str] | None = None
    """What people call the two: their models, and the settings in which they differ."""
    others: tuple[str, ...] = ()
    """Configurations in the same output that are not compared."""
    images: int = 0
    """Number of images that both have labelled, and that are compared."""
    unchanged: int = 0
    """Compared images whose two masks are equal."""
    only_before: int = 0
    only_after: int = 0
    replaced: int = 0
    """Images labelled by both whose file has changed in between, so that their masks are not compared."""
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 256), np.int64))
    """Compared pixels by class before (row) and after (column)."""
    uncertainty: tuple[float, float] = (0.0, 0.0)
    """Sums over the compared images before and after, in nats."""
    most: list[ChangedImage] = field(default_factory=list)
    """The images with the largest `share`, in descending order."""

    @property
    def share(self) -> float:
        """Fraction of all compared pixels whose class changed."""
        return 1 - float(np.trace(self.pixels)) / max(1, int(self.pixels.sum()))


def find_changes(config: ChangesConfig) -> Changes:
    """Compares all images that both configurations have labelled; reads masks one row group at a time.

    Raises FileNotFoundError if there are no labels, ValueError if a configuration is missing or the two have different
    classes.
    """
    output = config.labels
    before, after, others = _configurations(output, config)
    old, new = (current_rows(output, "labels", config_hash=one) for one in (before, after))
    task, other = (read_task(shards[0][0]) for shards in (new, old))
    if task.class_names != other.class_names:
        raise ValueError(f"{before} and {after} have different classes: {other.class_names} and {task.class_names}")
    found = Changes(before=before, after=after, names=_names(output, before, after), others=others, task=task)
    ranked: list[tuple[float, int, ChangedImage]] = []
    pairs = track(_pairs(old, new, found), "comparing", unit="images", total=sum(int(rows.sum()) for _, rows in old))
    for number, (before_row, after_row) in enumerate(pairs):
        changed = _compare(before_row, after_row, found)
        if changed is not None:
            heapq.heappush(ranked, (changed.share, -number, changed))
            if len(ranked) > SHOWN:
                heapq.heappop(ranked)
    found.most = [changed for _, _, changed in sorted(ranked, reverse=True)]
    return found


def _configurations(output: str, config: ChangesConfig) -> tuple[str, str, tuple[str, ...]]:
    """The two configurations asked for, or else those of the newest runs; then all others."""
    known = [one.config_hash for one in configurations(output, "labels")]  # newest run first
    after = config.after or next((one for one in known if one != config.before), "")
    older = known[known.index(after) + 1 :] if after in known else []
    before = config.before or (older or [""])[0]
    if missing := [one for one in (before, after) if one not in known]:
        raise ValueError(
            f"{output} holds labels of the configurations {', '.join(known)}; "
            + (f"not of {missing[0]}" if missing[0] else f"none older than {after} to compare it with")
        )
    return before, after, tuple(one for one in known if one not in (before, after))


def _names(output: str, before: str, after: str) -> tuple[str, str]:
    old, new = (_options(output, one) for one in (before, after))
    differing = [name for name in _SETTINGS if old.get(name) != new.get(name)]
    names = _name(before, old, differing), _name(after, new, differing)
    return names if names[0] != names[1] else (f"{names[0]}, {before}", f"{names[1]}, {after}")


def _options(output: str, config_hash: str) -> Mapping[str, object]:
    """The options of the newest run of a configuration; empty if its manifest is gone."""
    runs = find_runs(output, "labels", config_hash)
    return runs[-1].info.config if runs else {}


def _name(config_hash: str, options: Mapping[str, object], differing: Sequence[str]) -> str:
    model = storage.redact(str(options.get("model") or "")).rstrip("/").rpartition("/")[2] or config_hash
    settings = [f"{name} {options[name]}" for name in differing if options.get(name) is not None]
    return ", ".join([model, *settings])


def _pairs(old: Shards, new: Shards, found: Changes) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields the rows of each image before and after; counts rows without a partner."""
    places: dict[str, Place] = {}
    for shard, (uri, rows) in enumerate(_labelled(new)):
        tables = read_rows(uri, rows, ["image_id"])
        ids: Iterator[Any] = (name for table in tables for name in table["image_id"].to_pylist())
        places |= {name: (shard, row) for name, row in zip(ids, rows.tolist(), strict=True)}
    for uri, rows in _labelled(old):
        for table in read_rows(uri, rows, _COLUMNS):
            batch = table.to_pylist()
            matched = [row for row in batch if row["image_id"] in places]
            found.only_before += len(batch) - len(matched)
            yield from zip(matched, _read(new, [places.pop(row["image_id"]) for row in matched]), strict=True)
    found.only_after = len(places)


def _labelled(shards: Shards) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """For each shard, the numbers of its current rows that have a mask."""
    for uri, current in shards:
        status = read_columns(uri, ["status"])["status"].to_pylist()
        yield uri, np.flatnonzero(current & np.array([one == "ok" for one in status], bool))


def _read(shards: Shards, places: list[Place]) -> list[dict[str, Any]]:
    """The rows at `places`, in that order."""
    rows: dict[Place, dict[str, Any]] = {}
    for shard in sorted({shard for shard, _ in places}):
        numbers = np.array(sorted(row for other, row in places if other == shard))
        read = (row for table in read_rows(shards[shard][0], numbers, _COLUMNS) for row in table.to_pylist())
        rows |= {(shard, number): row for number, row in zip(numbers.tolist(), read, strict=True)}
    return [rows[place] for place in places]


def _compare(before: dict[str, Any], after: dict[str, Any], found: Changes) -> ChangedImage | None:
    """Counts the image in `found`; returns it if its masks differ."""
    old, new = (row_mask(row) for row in (before, after))
    if old.shape != new.shape or is_another(after["uri"], before, after):
        found.replaced += 1
        return None
    found.images += 1
    found.uncertainty = (found.uncertainty[0] + before["uncertainty"], found.uncertainty[1] + after["uncertainty"])
    counts = np.bincount(old.reshape(-1).astype(np.int64) * 256 + new.reshape(-1), minlength=256 * 256)
    found.pixels += counts.reshape(256, 256)
    wrong = int((old != new).sum())
    if not wrong:
        found.unchanged += 1
        return None
    about = {name: after[name] for name in ("uri", *VERSION, "width", "height", "uncertainty")}
    masks = cell_bytes(before["mask"]), cell_bytes(after["mask"])
    return ChangedImage(**about, share=wrong / old.size, masks=masks)
