"""The stages of the generate job. A Ray Data row is one chunk, whose samples are one pickle between stages."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg.cluster.actor_threads import ActorThreads
from ddpm_seg.pipeline.generate.rows import Sample, SampleInput, SampleSpec, sample_table
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.table_rows import NOT_FINITE

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_seg.model.device.dtypes import DType
    from ddpm_seg.model.pixel_labels import PixelLabels
    from ddpm_seg.model.samples.sampling import SamplingConfig
    from ddpm_seg.model.segmenter import Segmenter


def nothing_to_read(row: Row) -> Row:
    """The first stage, which does nothing: sampling needs only seeds."""
    return row


class Draw:
    """An actor that keeps the model in memory, draws images and labels them: SampleInputs in, Samples out.

    Raises ModelChangedError if the bundle at `model` no longer has the id `model_id`.
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
        from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
        from ddpm_seg.model.device.choice import default_device
        from ddpm_seg.model.resident import resident_drawer
        from ddpm_seg.model.segmenter import Segmenter

        self.threads = ActorThreads(threads)
        bundle, device = load_bundle(model, model_id), default_device()
        self.device = device
        self.drawer = resident_drawer(bundle, sampling, device, dtype, batch_size=batch_size, compile=compile)
        self.segmenter: Segmenter | None = None
        if bundle.members:
            self.segmenter = Segmenter(bundle, device=device, dtype=dtype, extractor=self.drawer.extractor)

    def __call__(self, row: Row) -> Row:
        from ddpm_seg.model.kernels.checked import computed_by

        self.threads.take()
        start = time.perf_counter()
        samples = self._samples(pickle.loads(row["payload"]))
        return {
            **row,
            "payload": pickle.dumps(samples, protocol=5),
            "segment_seconds": time.perf_counter() - start,
            "computed_by": computed_by(self.device),
        }

    def _samples(self, sources: list[SampleInput]) -> list[Sample]:
        features = self.segmenter.features if self.segmenter else None
        images: list[NDArray[np.uint8] | None] = []
        labels: list[PixelLabels | None] = []
        for image, maps in self.drawer.draw(sources[0].seed, [source.number for source in sources], features):
            images.append(image)
            labels.append(None if image is None else self._label_maps(maps))
        if self.drawer.extractor is not None:
            labels = self._label_images(images)
        return [_sample(*one) for one in zip(sources, images, labels, strict=True)]

    def _label_maps(self, maps: list[Tensor] | None) -> PixelLabels | None:
        """Labels one sample at once, from the maps of drawing it: a whole chunk's maps would not fit in memory."""
        if self.segmenter is None or maps is None:
            return None
        return self.segmenter.segment_maps(maps)[0]

    def _label_images(self, images: list[NDArray[np.uint8] | None]) -> list[PixelLabels | None]:
        """Labels drawn images in full batches, padding the last, so that masks do not depend on the chunk size."""
        drawn = [image for image in images if image is not None]
        if self.segmenter is None or not drawn:
            return [None] * len(images)
        size = self.drawer.batch_size
        padded = drawn + drawn[-1:] * (-len(drawn) % size)
        found: list[PixelLabels] = []
        for start in range(0, len(padded), size):
            found += self.segmenter.segment(np.stack(padded[start : start + size]))
        labels = iter(found)
        return [None if image is None else next(labels) for image in images]


def tabulate(row: Row, spec: SampleSpec) -> pa.Table:
    """Samples in; `samples` rows out."""
    return sample_table(pickle.loads(row["payload"]), spec)


def killed(row: Row, spec: SampleSpec) -> pa.Table:
    """SampleInputs in; an error row for each, saying that it kills every worker."""
    message = "the worker process died (out of memory or a crash in native code) whenever it drew this sample"
    sources: list[SampleInput] = pickle.loads(row["payload"])
    samples = [Sample(source=source, error_type="killed_worker", error_message=message) for source in sources]
    return sample_table(samples, spec)


def _sample(source: SampleInput, image: NDArray[np.uint8] | None, label: PixelLabels | None) -> Sample:
    if image is None:
        error_type, error_message = NOT_FINITE
        return Sample(source=source, error_type=error_type, error_message=error_message)
    return Sample(source=source, image=image, label=label)
