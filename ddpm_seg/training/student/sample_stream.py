"""Batches of generated samples, read from Parquet as they are needed: never all in memory."""

# Shapes: B samples of S x S pixels.

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.schema import METADATA_KEY
from ddpm_seg.data.table_pictures import row_image, row_mask
from ddpm_seg.evaluation.tables.curation import TABLE, ignore_pixels, read_curation, read_samples
from ddpm_seg.evaluation.tables.selection import read_task
from ddpm_seg.fits import FitMode
from ddpm_seg.runs.parquet import DamagedFileError, open_parquet, require_columns
from ddpm_seg.runs.view import view_shards
from ddpm_seg.tasks import Task

POOL = 4  # pieces whose rows are shuffled together: about a thousand samples
AHEAD = 3  # batches decoded ahead while the network trains

Batch = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images (B, S, S, 3) uint8 and class ids (B, S, S) uint8, 255 where unlabelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The rows of a row group that are used."""

    uri: str
    row_group: int
    rows: NDArray[np.int64]
    """int64 positions in the row group."""


class SampleStream:
    """The samples under `output` that their curation keeps; without a curation, all samples that have no error.

    Each epoch deals the pieces to the workers in a new order, and each worker shuffles the rows of a few pieces
    together. The order depends on (seed, epoch, rank) alone. `config_hash` is that of `read_samples`. With
    `num_samples`, only this many are used, which are among those of every larger number. Raises FileNotFoundError if
    there are no samples and ValueError if they have no labels or are too few.
    """

    def __init__(self, output: str, *, config_hash: str | None = None, num_samples: int | None = None) -> None:
        self.output = output
        self.curation = read_curation(self.output)
        columns = ["image_id", "config_hash", "model_id", "status"]
        kept = read_samples(self.output, config_hash=config_hash, columns=columns)
        kept = kept.filter(pc.equal(kept["status"], "ok"))
        if not kept.num_rows:
            raise ValueError(f"there are no samples to train on at {self.output}")
        if num_samples is not None:
            if num_samples > kept.num_rows:
                raise ValueError(f"--num-samples is {num_samples}, but there are {kept.num_rows} at {self.output}")
            kept = kept.sort_by("image_id").slice(0, num_samples)  # ids are hashes: their order is a random one
        self.config_hash: str = kept["config_hash"][0].as_py()
        self.model_id: str | None = kept["model_id"][0].as_py()
        self.num_samples: int = kept.num_rows
        shards = view_shards(self.output, TABLE, self.config_hash)
        self.task, self.size = _task_and_size(shards[0])
        self.pieces = [piece for uri in shards for piece in _pieces(uri, kept["image_id"].combine_chunks())]

    @property
    def fit(self) -> FitMode:
        """How real images that are not square are fitted beside samples, which are square."""
        return "letterbox"

    def about(self) -> dict[str, Any]:
        """What a student depends on, as JSON values."""
        curation = dataclasses.asdict(self.curation) if self.curation else None
        samples = {"uri": self.output, "config_hash": self.config_hash, "count": self.num_samples}
        return {"samples": {**samples, "curation": curation}}

    def num_batches(self, seed: int, epoch: int, share: int, world_size: int) -> int:
        """Number of batches of `share` samples that every worker has in that epoch. Raises ValueError if there is
        none."""
        if world_size > len(self.pieces):
            raise ValueError(f"{world_size} workers, but the samples are in {len(self.pieces)} row groups; use fewer")
        own = [self._own(seed, epoch, rank, world_size) for rank in range(world_size)]
        batches = min(sum(len(piece.rows) for piece in pieces) // share for pieces in own)
        if not batches:
            raise ValueError(f"{self.num_samples} samples are fewer than a batch for each of {world_size} workers")
        return batches

    def batches(self, seed: int, epoch: int, share: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Yields this worker's batches of `share` samples, `num_batches` of them."""
        rows = self._rows(self._own(seed, epoch, rank, world_size), np.random.default_rng((seed, epoch, rank)))
        with ThreadPoolExecutor() as pool:
            waiting: list[list[Future[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]] = []
            for _ in range(self.num_batches(seed, epoch, share, world_size)):
                waiting.append([pool.submit(_decoded, next(rows)) for _ in range(share)])
                if len(waiting) > AHEAD:
                    yield _stacked(waiting.pop(0))
            for batch in waiting:
                yield _stacked(batch)

    def _own(self, seed: int, epoch: int, rank: int, world_size: int) -> list[Piece]:
        order = np.random.default_rng((seed, epoch)).permutation(len(self.pieces))
        return [self.pieces[number] for number in order[rank::world_size]]

    def _rows(self, pieces: Sequence[Piece], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        """Rows in random order, with image and mask still encoded."""
        for start in range(0, len(pieces), POOL):
            table = pa.concat_tables([self._read(piece) for piece in pieces[start : start + POOL]])
            rows = table.to_pylist()
            for row in rng.permutation(table.num_rows):
                yield rows[row]

    def _read(self, piece: Piece) -> pa.Table:
        columns = ["uri", "width", "height", "image", "mask"]
        if self.curation is not None and self.curation.ignore_above is not None:
            columns.append("uncertainty_map")
        with open_parquet(piece.uri) as file:
            rows = file.read_row_group(piece.row_group, columns=columns).take(pa.array(piece.rows))
        return ignore_pixels(rows, self.curation) if self.curation is not None else rows


def _task_and_size(uri: str) -> tuple[Task, int]:
    with open_parquet(uri) as file:
        if METADATA_KEY not in (file.schema_arrow.metadata or {}):
            raise ValueError(f"the samples in {storage.redact(uri)} have no labels: their model has no ensemble")
        widths = file.read(columns=["width"])["width"].drop_null()
        if not len(widths):
            raise DamagedFileError(uri, "none of its rows has a width")
    return read_task(uri), widths[0].as_py()


def _pieces(uri: str, kept: pa.Array[Any]) -> list[Piece]:
    pieces = []
    with open_parquet(uri) as file:
        for number in range(file.num_row_groups):
            require_columns(uri, file.schema_arrow, ["image_id", "uri", "image", "mask", "width", "height"])
            ids = file.read_row_group(number, columns=["image_id"])["image_id"]
            rows = np.flatnonzero(pc.is_in(ids, value_set=kept).to_numpy())
            if len(rows):
                pieces.append(Piece(uri=uri, row_group=number, rows=rows))
    return pieces


def _decoded(row: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return row_image(row), row_mask(row)


def _stacked(batch: list[Future[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]) -> Batch:
    images, masks = zip(*(one.result() for one in batch), strict=True)
    return np.stack(images), np.stack(masks)
