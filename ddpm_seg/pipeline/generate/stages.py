"""The stages of the generate job. One Ray Data row is one chunk; between stages its samples travel as one pickle."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ddpm_seg.cluster.actor_threads import ActorThreads
from ddpm_seg.pipeline.generate.rows import Sample, SampleInput, SampleSpec, sample_table
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.table_rows import NOT_FINITE

if TYPE_CHECKING:
    from ddpm_seg.model.device.dtypes import DType
    from ddpm_seg.model.pixel_labels import PixelLabels
    from ddpm_seg.model.sampling import SamplingConfig


def nothing_to_read(row: Row) -> Row:
    """Seeds are all that sampling needs."""
    return row


class Draw:
    """SampleInputs in, Samples out; an actor that keeps the network, which draws the images and labels them.

    Raises ModelChangedError where the bundle at `model` is another than `model_id` by now.
    """

    def __init__(
        self,
        model: str,
        *,
        model_id: str | None = None,
        sampling: SamplingConfig,
        dtype: DType,
        batch_size: int | None,
        threads: int,
        compile: bool = False,
    ) -> None:
        import torch

        from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
        from ddpm_seg.model.device.choice import default_device
        from ddpm_seg.model.generator import Generator, default_batch_size
        from ddpm_seg.model.networks.ddpm_extractor import DDPMExtractor
        from ddpm_seg.model.resident import resident_ddpm
        from ddpm_seg.model.segmenter import Segmenter

        self.threads = ActorThreads(threads)
        bundle = load_bundle(model, model_id)
        device = torch.device(default_device())
        self.segmenter = Segmenter(bundle, device=str(device), dtype=dtype, compile=compile) if bundle.members else None
        resident = self.segmenter.extractor if self.segmenter else resident_ddpm(bundle, device, dtype, compile=compile)
        assert isinstance(resident, DDPMExtractor)  # plan_generate
        batch_size = batch_size or default_batch_size(bundle.ddpm, device)
        self.generator = Generator(resident.unet, bundle.ddpm, sampling, device=device, batch_size=batch_size)

    def __call__(self, row: Row) -> Row:
        self.threads.take()
        start = time.perf_counter()
        sources: list[SampleInput] = pickle.loads(row["payload"])
        images = self.generator.sample(sources[0].seed, [source.number for source in sources])
        labels = self._label([image for image in images if image is not None])
        samples = [_sample(source, image, labels) for source, image in zip(sources, images, strict=True)]
        return {
            **row,
            "payload": pickle.dumps(samples, protocol=5),
            "segment_seconds": time.perf_counter() - start,
        }

    def _label(self, images: list[np.ndarray]) -> list[PixelLabels | None]:
        """In full batches, as they were drawn, so that a mask's bytes do not depend on the chunk's size either."""
        if self.segmenter is None or not images:
            return [None] * len(images)
        size = self.generator.batch.size
        padded = images + images[-1:] * (-len(images) % size)
        labels: list[PixelLabels | None] = []
        for start in range(0, len(padded), size):
            labels += self.segmenter.segment(np.stack(padded[start : start + size]))
        return labels[: len(images)]


def tabulate(row: Row, spec: SampleSpec) -> pa.Table:
    """Samples in; `samples` rows out."""
    return sample_table(pickle.loads(row["payload"]), spec)


def killed(row: Row, spec: SampleSpec) -> pa.Table:
    """SampleInputs in; for each the row that says that no worker outlives it."""
    message = "the worker process died (out of memory or a crash in native code) whenever it drew this sample"
    sources: list[SampleInput] = pickle.loads(row["payload"])
    samples = [Sample(source=source, error_type="killed_worker", error_message=message) for source in sources]
    return sample_table(samples, spec)


def _sample(source: SampleInput, image: np.ndarray | None, labels: list[PixelLabels | None]) -> Sample:
    """Takes the next of `labels` for an image that there is."""
    if image is None:
        error_type, error_message = NOT_FINITE
        return Sample(source=source, error_type=error_type, error_message=error_message)
    return Sample(source=source, image=image, label=labels.pop(0))
