"""Feature extraction on a Ray cluster: each actor keeps the network and writes activations image by image."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from ddpm_seg.cluster.actor_threads import ActorThreads
from ddpm_seg.cluster.nodes import room_for
from ddpm_seg.cluster.resident_actors import map_on_actors
from ddpm_seg.data.sample_names import SampleName
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.training.ensemble.feature_files import FeatureExtractor
from ddpm_seg.training.ensemble.larger_input import at_side
from ddpm_seg.training.ensemble.sources import Source

logger = logging.getLogger(__name__)


class ExtractFeatures:
    """Ray actor that turns an image into a file of activations. Loads the bundle itself, as Ray may restart it
    elsewhere."""

    def __init__(
        self, model: str, model_id: str | None, image_size: int, features: FeatureConfig, threads: int
    ) -> None:
        self.threads = ActorThreads(threads)
        device = default_device()
        self.extractor = FeatureExtractor(at_side(load_bundle(model, model_id), image_size), features, device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self.threads.take()
        source = row["image"] if "image" in row else SampleName(int(row["seed"]), int(row["number"]))
        self.extractor.write(source, row["uri"])
        return {"uri": row["uri"]}


def extract_on_actors(
    sources: dict[str, Source],
    features: FeatureConfig,
    model: str,
    num_actors: int,
    *,
    image_size: int,
    model_id: str | None = None,
) -> Iterator[str]:
    """Writes the activations of each source to its URI; yields each URI once it is written. The network takes images of
    `image_size`, see `at_side`.

    If a worker dies, another one redoes its image and replaces the file with the same bytes. Raises ValueError if the
    cluster cannot hold the actors or cannot see the files, StageError if the work fails or the bundle at `model` does
    not have the id `model_id`.
    """
    allocation = room_for(num_actors, [model, *sources])
    logger.info("features; actors: %d, each on %s", allocation.actors, allocation.describe())
    rows = [{"uri": uri, **_columns(source)} for uri, source in sources.items()]
    arguments = {"model": model, "model_id": model_id, "image_size": image_size, "features": features}
    arguments["threads"] = allocation.threads
    for row in map_on_actors(rows, ExtractFeatures, arguments, allocation, what="features"):
        yield row["uri"]


def _columns(source: Source) -> dict[str, Any]:
    """A source as columns of a row, which Ray Data carries as they are."""
    if isinstance(source, SampleName):
        return {"seed": source.seed, "number": source.number}
    return {"image": source}
