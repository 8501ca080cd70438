"""The three stages of the label job. A Ray Data row is one chunk, whose images are one pickle between stages."""

from __future__ import annotations

import dataclasses
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg.cluster.actor_threads import ActorThreads
from ddpm_seg.kept_memory import keep_freed_memory
from ddpm_seg.model.segment_canvas import segment_canvases
from ddpm_seg.pipeline.label.fetch_members import fetch_members
from ddpm_seg.pipeline.label.fetch_singles import fetch_singles
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput, LabelSpec, label_table
from ddpm_seg.pipeline.row import Row

if TYPE_CHECKING:
    from ddpm_seg.fits import Average
    from ddpm_seg.model.device.dtypes import DType
    from ddpm_seg.model.pixel_labels import PixelLabels

# Decoding at once: only a few large images in memory.
DECODERS = 4


def fetch_and_decode(row: Row, spec: LabelSpec) -> Row:
    """The first stage: ImageInputs in, FittedImages out."""
    start = time.perf_counter()
    keep_freed_memory()  # canvases and payloads
    sources: list[ImageInput] = pickle.loads(row["payload"])
    with ThreadPoolExecutor(DECODERS) as pool:
        if sources and sources[0].place is not None:
            images = fetch_members(sources, spec, pool)
        else:
            images = fetch_singles(sources, spec, pool)
    payload = pickle.dumps(images, protocol=5)
    return {**row, "payload": payload, "read_seconds": time.perf_counter() - start}


class Segment:
    """An actor that keeps the model in memory: FittedImages in, (FittedImages, PixelLabels) out.

    It loads the bundle from its URI, so that it can restart on another node. Raises ModelChangedError if the bundle
    there no longer has the id `model_id`, or is calibrated otherwise.
    """

    def __init__(
        self,
        model: str,
        *,
        model_id: str | None = None,
        dtype: DType,
        batch_size: int | None,
        threads: int,
        compile: bool = False,
        calibration: str | None = None,
        average: Average = "none",
        tiles: bool = False,
    ) -> None:
        from ddpm_seg.model.trained import load_model, refuse_another_calibration, resident

        self.threads, self.tiles = ActorThreads(threads), tiles
        bundle = load_model(model, model_id)
        refuse_another_calibration(model, bundle, calibration)
        self.segmenter = resident(bundle, dtype=dtype, batch_size=batch_size, compile=compile, average=average)

    def __call__(self, row: Row) -> Row:
        from ddpm_seg.model.kernels.checked import computed_by

        self.threads.take()
        start = time.perf_counter()
        images: list[FittedImage] = pickle.loads(row["payload"])
        canvases = [image.canvas for image in images if image.canvas is not None]
        found = iter(self._labels(canvases, images))
        labels = [next(found) if image.canvas is not None else None for image in images]
        del canvases, found
        # The next stage needs only the images' sizes, so do not send the pixels.
        images = [dataclasses.replace(image, canvas=None) for image in images]
        payload = pickle.dumps((images, labels), protocol=5)
        seconds, by = time.perf_counter() - start, computed_by(self.segmenter.device)
        return {**row, "payload": payload, "segment_seconds": seconds, "computed_by": by}

    def _labels(self, canvases: list[NDArray[np.uint8]], images: list[FittedImage]) -> list[PixelLabels]:
        enlarged = any(image.placement is not None and image.placement.resized for image in images)
        return segment_canvases(self.segmenter, canvases, tiles=self.tiles, top=enlarged)


def tabulate(row: Row, spec: LabelSpec) -> pa.Table:
    """The last stage: (FittedImages, PixelLabels) in, rows of the `labels` table out."""
    images: list[FittedImage]
    labels: list[PixelLabels | None]
    images, labels = pickle.loads(row["payload"])
    return label_table(images, labels, spec)


def killed(row: Row, spec: LabelSpec) -> pa.Table:
    """ImageInputs in; an error row for each, saying that it kills every worker."""
    message = "the worker process died (out of memory or a crash in native code) whenever it was given this image"
    sources: list[ImageInput] = pickle.loads(row["payload"])
    images = [FittedImage(source=source, error_type="killed_worker", error_message=message) for source in sources]
    return label_table(images, [None] * len(images), spec)
