"""Times a few images on this machine, so that a dry run can estimate how long a run would take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError
from ddpm_seg.data.inputs import sources
from ddpm_seg.fits import fit_of
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.bundle.student_bundle import StudentBundle
from ddpm_seg.model.segment_canvas import segment_canvases
from ddpm_seg.model.trained import resident
from ddpm_seg.model.views import finer
from ddpm_seg.pipeline.estimate import Pace
from ddpm_seg.pipeline.label.plan import LabelPlan, chosen_members

if TYPE_CHECKING:
    from ddpm_seg.model.trained import ResidentModel

IMAGES, TRIED = 8, 16
SLOW = 2.0
"""In seconds. A network that takes longer than this for one image is timed on that image only."""


def time_images(plan: LabelPlan, model: Bundle | StudentBundle) -> Pace | None:
    """Measures the pace of `model` on the plan's first images; None if none of them can be read."""
    config = plan.config
    canvases = list(islice(_canvases(plan), IMAGES))
    if not canvases:
        return None
    segmenter = resident(model, dtype=config.dtype, batch_size=config.batch_size, average=config.average or "none")
    start = time.perf_counter()
    _segment(segmenter, canvases[:1], plan)
    seconds, number = time.perf_counter() - start, 1
    if seconds < SLOW:  # measure again: the first pass is slower than later ones, and single images than a batch
        number, start = len(canvases), time.perf_counter()
        _segment(segmenter, canvases, plan)
        seconds = time.perf_counter() - start
    return Pace(seconds=seconds / number, known_from=f"timed here on {number} of them ({segmenter.device})")


def about_images(plan: LabelPlan) -> int:
    """About how many images there are to do: those in containers are counted in the first one, the rest by size."""
    singles = plan.run.items_left + plan.run.items_new - plan.new_containers.num_rows
    sizes: list[int | None] = plan.new_containers["size_bytes"].to_pylist()
    if not sizes or not sizes[0]:
        return singles + len(sizes)
    here = sum(1 for _ in _in_first_container(plan))
    return singles + max(len(sizes), round(here * sum(size or 0 for size in sizes) / sizes[0]))


def _in_first_container(plan: LabelPlan) -> Iterator[str]:
    uri = plan.new_containers["uri"][0].as_py()
    try:
        for file in sources.images_in(plan.read_uris.get(uri, uri), chosen_members(plan.config)) or ():
            yield file.uri
    except (OSError, ValueError):  # the run has a row for that
        return


def _segment(segmenter: ResidentModel, canvases: list[NDArray[np.uint8]], plan: LabelPlan) -> None:
    segment_canvases(segmenter, canvases, tiles=plan.config.tile is not None)


def _canvases(plan: LabelPlan) -> Iterator[NDArray[np.uint8]]:
    """Yields the canvases of those of the plan's first images that can be read."""
    fit, times = fit_of(plan.header.provenance, plan.config.fit), finer(plan.config.average or "none")
    uris = [plan.read_uris.get(uri, uri) for uri in map(str, plan.run.new["uri"][:TRIED].to_pylist())]
    if plan.new_containers.num_rows:
        uris = list(islice(_in_first_container(plan), TRIED))
    for uri in uris:
        try:
            data, _ = sources.read_image(uri, max_bytes=DEFAULT_LIMITS.max_bytes)
            yield decode_and_fit(data, DEFAULT_LIMITS, plan.header.image_size, fit, times, plan.config.tile)[0]
        except (OSError, ValueError, ImageError, storage.StorageError):
            continue
