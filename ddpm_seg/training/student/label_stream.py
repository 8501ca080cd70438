"""Batches of real images and the masks that jobs.label gave them, from a temporary file: never all in memory."""

# Shapes: images of H x W pixels; B of them at S x S, the student's size.

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import resize_nearest
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.image_set import AT_ONCE, ImageFile
from ddpm_seg.data.inputs.labelled_image import VERSION, read_labelled
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.tables.selection import select
from ddpm_seg.fits import FitMode
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.runs.ledger import find_runs
from ddpm_seg.runs.parquet import open_parquet, read_rows
from ddpm_seg.tasks import UNLABELLED, Task
from ddpm_seg.training.student.sample_stream import Batch

logger = logging.getLogger(__name__)

CONFIDENCE = "confidence_map"


class LabelStream:
    """The images that were labelled into `output`, with their masks at the student's size.

    Pixels of less confidence than `ignore_below` are 255, as far as the labels say (`jobs.label --maps`). Raises
    FileNotFoundError if there are no labels, ValueError if there is nothing to learn from.
    """

    def __init__(
        self, output: str, *, config_hash: str | None = None, size: int | None = None, ignore_below: float = 0.0
    ) -> None:
        found = select(output, config_hash=config_hash)
        if not found.images or found.task is None:
            raise ValueError(f"there are no labelled images to train on at {storage.redact(output)}")
        self.output, self.num_images, self.ignore_below = output, found.images, ignore_below
        self.task: Task = found.task
        self.config_hash: str = found.configuration.config_hash
        self._shards = found.shards
        runs = find_runs(output, "labels", self.config_hash)
        options = runs[-1].info.config if runs else {}
        self.fit: FitMode = "stretch" if options.get("fit") == "stretch" else "letterbox"
        self.model_id, self.has_confidence = _about(self._shards[0])
        self.size = size if size is not None else _size_of(str(options.get("model")), self.model_id)
        if not self.has_confidence and ignore_below:
            logger.warning(
                "the labels at %s do not say how confident each pixel is, so uncertain ones are learned too; label "
                "with --maps to leave them out",
                storage.redact(output),
            )

    def about(self) -> dict[str, Any]:
        """What a student depends on, as JSON values."""
        labels = {"uri": self.output, "config_hash": self.config_hash, "count": self.num_images}
        return {"labels": {**labels, "ignore_below": self.ignore_below}}

    def num_batches(self, seed: int, epoch: int, share: int, world_size: int) -> int:
        """Number of batches per epoch and worker, of `share` images each. Raises ValueError if there are too few for
        one."""
        batches = self.num_images // (share * world_size)
        if not batches:
            raise ValueError(f"{self.num_images} labelled images are fewer than a batch of {share * world_size}")
        return batches

    def batches(self, seed: int, epoch: int, share: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Yields this worker's batches of `share` images; the order depends on (seed, epoch) alone."""
        order = np.random.default_rng((seed, epoch)).permutation(len(self._file))
        for number in range(self.num_batches(seed, epoch, share, world_size)):
            pixels = self._file[order[number * share * world_size :][rank : share * world_size : world_size]]
            yield np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])

    @cached_property
    def _file(self) -> ImageFile:
        """Images and masks together, (S, S, 4). Images that cannot be read any more, or have changed, are logged and
        left out: their number becomes `num_images`. Raises ValueError if none is left."""
        file = ImageFile(self.size, channels=4)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for rows in self._rows():
                for pixels in pool.map(self._read, rows):
                    if pixels is not None:
                        file.append(pixels)
        if not len(file):
            raise ValueError(f"none of the {self.num_images} labelled images at {self.output} could be read")
        self.num_images = len(file)
        return file

    def _rows(self) -> Iterator[list[dict[str, Any]]]:
        columns = ["uri", *VERSION, "width", "height", "mask", *([CONFIDENCE] if self.has_confidence else [])]
        for shard, numbers in self._shards:
            for first in range(0, len(numbers), AT_ONCE):
                for table in read_rows(shard, numbers[first : first + AT_ONCE], columns):
                    yield table.to_pylist()

    def _read(self, row: dict[str, Any]) -> NDArray[np.uint8] | None:
        try:
            canvas, placement = decode_and_fit(read_labelled(row["uri"], row), DEFAULT_LIMITS, self.size, self.fit)
        except (OSError, ValueError) as error:
            logger.warning("%s is left out: %s", storage.redact(row["uri"]), error)
            return None
        if (placement.image_width, placement.image_height) != (row["width"], row["height"]):
            logger.warning("%s is left out: it has another size than when it was labelled", storage.redact(row["uri"]))
            return None
        mask = row_mask(row)
        if self.has_confidence:
            mask = np.where(row_mask(row, column=CONFIDENCE) < 255 * self.ignore_below, np.uint8(UNLABELLED), mask)
        if self.task.ignore_label is not None:
            mask = np.where(mask == self.task.ignore_label, np.uint8(UNLABELLED), mask)
        label = np.full((self.size, self.size), UNLABELLED, np.uint8)
        placement.crop(label)[:] = resize_nearest(mask, placement.height, placement.width)
        return np.concatenate([canvas, label[:, :, None]], axis=2)


def _about(shard: tuple[str, NDArray[np.int64]]) -> tuple[str, bool]:
    """The model_id of the labels, and whether they have a confidence per pixel."""
    uri, numbers = shard
    with open_parquet(uri) as file:
        has_confidence = CONFIDENCE in file.schema_arrow.names
    table = next(iter(read_rows(uri, numbers[:1], ["model_id"])))
    return str(table["model_id"][0].as_py()), has_confidence


def _size_of(model: str, model_id: str) -> int:
    """The side of the network that made the labels. Raises ValueError if its bundle is no longer there."""
    try:
        header, _ = read_trained_header(model)
    except (OSError, ValueError):
        header = None
    if header is None or header.model_id != model_id:
        raise ValueError(
            f"the model {model_id} that made these labels is no longer at {storage.redact(model)}: give --image-size, "
            "the side of the images that the student sees"
        )
    return header.image_size
