"""Sums over a run's `labels`, streamed: reads no mask, and memory does not grow with the number of rows."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg.data.domain import OUTSIDE
from ddpm_seg.data.schema import DOMAIN_DISTANCE, METADATA_KEY, task_of
from ddpm_seg.data.table_pictures import cell_bytes
from ddpm_seg.runs.parquet import open_parquet, read_rows, require_columns
from ddpm_seg.tasks import Task

COLUMNS = ["uri", "status", "error_type", "error_message", "width", "height", "uncertainty", "classes"]
BATCH_ROWS = 8192
READERS = 8  # files read at once: with a distant store most of the time is latency, not computation


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelledRow:
    """One image of `labels`, and the file and row that hold its mask."""

    uri: str
    uncertainty: float
    width: int
    height: int
    file: str
    row: int
    domain_distance: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRow:
    uri: str
    error_type: str
    error_message: str


class Histogram:
    """Counts numbers >= 0 in 2048 bins from 0; the bin width doubles when a larger number arrives."""

    BINS = 2048

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(self.BINS, np.int64)
        self.width = 2.0**-16

    def add(self, values: NDArray[Any]) -> None:
        """Adds `values` (1-D) to the histogram. Negative values go into the first bin, as 0."""
        if values.size == 0:
            return
        values = np.clip(values.astype(np.float64), 0, None)
        self._widen(float(values.max()))
        # The width is a power of two, so division is exact and no value lands on the wrong side of an edge.
        self.counts += np.bincount((values / self.width).astype(np.int64), minlength=self.BINS)

    def merge(self, other: Histogram) -> None:
        counts, width = other.counts, other.width
        self._widen(width * (self.BINS - 1))
        while width < self.width:
            counts, width = _halve(counts), width * 2
        self.counts = self.counts + counts

    def bars(self, most: int) -> tuple[NDArray[np.int64], float]:
        """Counts in equal bars that cover all values, and the width of a bar; between half of `most` and `most`
        bars."""
        used = max(most, int(np.flatnonzero(self.counts).max(initial=0)) + 1)
        counts, width = self.counts, self.width
        while used > most:
            counts, width, used = _halve(counts), width * 2, -(-used // 2)
        return counts[:used], width

    def quantile(self, q: float) -> float:
        """Upper edge of the bin with the `q` quantile: too high by at most 1/1000 of the largest value, or 2e-5."""
        rank = int(np.searchsorted(np.cumsum(self.counts), q * self.counts.sum()))
        return (rank + 1) * self.width

    def _widen(self, largest: float) -> None:
        while largest >= self.width * self.BINS:
            self.counts, self.width = _halve(self.counts), self.width * 2


def _halve(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([counts.reshape(-1, 2).sum(axis=1), np.zeros(len(counts) // 2, np.int64)])


@dataclasses.dataclass(kw_only=True, slots=True)
class Totals:
    """Sums over rows in any partition: `add` a batch, `merge` two totals. Arrays over classes have 256 entries."""

    keep_uncertain: int
    keep_errors: int
    task: Task | None = None
    images: int = 0
    ok: int = 0
    area: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(256))
    area_squares: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(256))
    images_with: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    class_uncertainty: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros((3, 256)))
    """For each class: the number of images that have it, and the sum and sum of squares of its mean uncertainty in them
    (nats)."""
    image_uncertainty: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(3))
    """Number, sum and sum of squares of the images' uncertainties (nats)."""
    judged: int = 0
    """Labelled images that have a `domain_distance`."""
    outside: int = 0
    """Those of them that are farther from the training images than `domain.OUTSIDE`."""
    uncertainty: Histogram = dataclasses.field(default_factory=Histogram)
    error_types: Counter[str] = dataclasses.field(default_factory=Counter)
    error_rows: list[ErrorRow] = dataclasses.field(default_factory=list)
    most_uncertain: list[LabelledRow] = dataclasses.field(default_factory=list)

    @property
    def errors(self) -> int:
        return self.images - self.ok

    def add(self, batch: pa.RecordBatch, *, file: str, first_row: int) -> None:
        """Adds rows `first_row`, `first_row` + 1, ... of a file; `batch` has the columns `COLUMNS`."""
        is_ok = np.asarray(batch["status"].to_numpy(zero_copy_only=False) == "ok", bool)
        self.images += len(is_ok)
        self.ok += int(is_ok.sum())
        self._add_classes(batch["classes"].filter(pa.array(is_ok)))
        self._add_errors(batch, ~is_ok)
        uncertainty = batch["uncertainty"].to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
        uncertainty[~is_ok] = np.nan
        known = uncertainty[np.isfinite(uncertainty)]
        self.uncertainty.add(known)
        self.image_uncertainty = self.image_uncertainty + np.array([(known**power).sum() for power in range(3)])
        if DOMAIN_DISTANCE.name in batch.schema.names:
            distances = batch[DOMAIN_DISTANCE.name].drop_null().to_numpy()
            self.judged += len(distances)
            self.outside += int((distances > OUTSIDE).sum())
        self._keep_most_uncertain(batch, uncertainty, file=file, first_row=first_row)

    def merge(self, other: Totals) -> None:
        self.task = self.task or other.task  # one run, one bundle, one task
        self.images += other.images
        self.ok += other.ok
        self.area = self.area + other.area
        self.area_squares = self.area_squares + other.area_squares
        self.class_uncertainty = self.class_uncertainty + other.class_uncertainty
        self.image_uncertainty = self.image_uncertainty + other.image_uncertainty
        self.images_with = self.images_with + other.images_with
        self.judged, self.outside = self.judged + other.judged, self.outside + other.outside
        self.uncertainty.merge(other.uncertainty)
        self.error_types.update(other.error_types)
        self.error_rows = (self.error_rows + other.error_rows)[: self.keep_errors]
        self._keep(other.most_uncertain)

    def _add_classes(self, classes: pa.Array[Any]) -> None:
        flat = pc.list_flatten(classes)
        class_id = flat.field("class_id").to_numpy(zero_copy_only=False).astype(np.int64)
        fraction = flat.field("fraction").to_numpy(zero_copy_only=False)
        self.area = self.area + np.bincount(class_id, weights=fraction, minlength=256)
        self.area_squares = self.area_squares + np.bincount(class_id, weights=np.square(fraction), minlength=256)
        self.images_with = self.images_with + np.bincount(class_id, minlength=256)  # a row names a class once
        uncertainty = flat.field("mean_uncertainty").to_numpy(zero_copy_only=False).astype(np.float64)
        known = np.isfinite(uncertainty)
        for power in range(3):
            weights = uncertainty[known] ** power
            self.class_uncertainty[power] += np.bincount(class_id[known], weights=weights, minlength=256)

    def _add_errors(self, batch: pa.RecordBatch, is_error: NDArray[np.bool_]) -> None:
        rows = batch.select(["uri", "error_type", "error_message"]).filter(pa.array(is_error))
        for row in rows.slice(0, max(0, self.keep_errors - len(self.error_rows))).to_pylist():
            self.error_rows.append(ErrorRow(**{name: value or "" for name, value in row.items()}))
        self.error_types.update(name or "unknown" for name in rows["error_type"].to_pylist())

    def _keep_most_uncertain(
        self, batch: pa.RecordBatch, uncertainty: NDArray[Any], *, file: str, first_row: int
    ) -> None:
        order = np.argsort(-uncertainty, kind="stable")  # NaN goes last
        found = [int(i) for i in order[: self.keep_uncertain] if np.isfinite(uncertainty[i])]
        names = [name for name in ("uri", "width", "height", DOMAIN_DISTANCE.name) if name in batch.schema.names]
        rows = batch.select(names).take(pa.array(found, pa.int64())).to_pylist()
        self._keep(
            LabelledRow(**row, uncertainty=float(uncertainty[i]), file=file, row=first_row + i)
            for i, row in zip(found, rows, strict=True)
        )

    def _keep(self, rows: Iterable[LabelledRow]) -> None:
        ranked = sorted([*self.most_uncertain, *rows], key=lambda row: (-row.uncertainty, row.uri))
        self.most_uncertain = ranked[: self.keep_uncertain]


def read_totals(files: Iterable[str], *, keep_uncertain: int, keep_errors: int) -> Totals:
    """Adds up the `labels` files of one run, in the given order, reading only the small columns."""
    totals = Totals(keep_uncertain=keep_uncertain, keep_errors=keep_errors)
    with ThreadPoolExecutor(READERS) as readers:
        for one in readers.map(lambda file: _read_file(file, keep_uncertain, keep_errors), files):
            totals.merge(one)
    return totals


def read_pictures(rows: Iterable[LabelledRow], column: str) -> dict[LabelledRow, bytes]:
    """PNG bytes of a column (`mask`, `image`) for `rows`. Reads only the row groups that hold them, one at a time."""
    by_file: dict[str, list[LabelledRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    pictures: dict[LabelledRow, bytes] = {}
    for file, wanted in by_file.items():
        wanted.sort(key=lambda row: row.row)
        tables = read_rows(file, np.array([row.row for row in wanted]), [column])
        cells = (cell_bytes(cell) for table in tables for cell in table[column].to_pylist())
        pictures.update(zip(wanted, cells, strict=True))
    return pictures


def first_rows(files: Iterable[str], count: int) -> list[LabelledRow]:
    """The first `count` images of samples without labels; their uncertainty is NaN."""
    rows: list[LabelledRow] = []
    for file in files:
        with open_parquet(file) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=["uri", "status", "width", "height"]):
                found = [(row, number) for number, row in enumerate(batch.to_pylist()) if row.pop("status") == "ok"]
                rows += [LabelledRow(**row, uncertainty=math.nan, file=file, row=number) for row, number in found]
                break  # more than a page shows
        if len(rows) >= count:
            break
    return rows[:count]


def _read_file(file: str, keep_uncertain: int, keep_errors: int) -> Totals:
    with open_parquet(file) as parquet:
        schema = parquet.schema_arrow
        require_columns(file, schema, COLUMNS)
        task = task_of(schema) if METADATA_KEY in (schema.metadata or {}) else None  # samples may have no labels
        totals = Totals(keep_uncertain=keep_uncertain, keep_errors=keep_errors, task=task)
        first_row = 0
        columns = [*COLUMNS, *({DOMAIN_DISTANCE.name} & set(schema.names))]
        for batch in parquet.iter_batches(BATCH_ROWS, columns=columns):
            totals.add(batch, file=file, first_row=first_row)
            first_row += len(batch)
    return totals
