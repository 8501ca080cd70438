"""Extracts activations of annotated images to train on: each image passes through the network once, here or on
actors."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import free_gpus
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.errors import work_began
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.bundle.files import resolve
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.progress import Progress
from ddpm_seg.training.ensemble.feature_files import FeatureExtractor, feature_uris, read_features
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.ensemble.sources import Source, sources_of

ITEM_BYTES = 2  # float16
UNFINISHED = "unfinished"
"""Folder at the output that an interrupted training or study leaves, and the same command goes on from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """Where an interrupted training keeps its work, and which actors extract features."""

    folder: str
    """URI prefix for activations, and for the state of the members' training."""
    model: str = ""
    """Name or URI of the bundle that the actors load."""
    model_id: str | None = None
    """Model id of that bundle; an actor that finds another one refuses it."""
    actors: int = 0
    """Number of Ray actors that extract features; 0 for this process."""

    @classmethod
    def at(cls, output: str, model: str, model_id: str, num_actors: int | None) -> Workplace:
        """That of a job with this --output, --model and --num-actors: by default an actor for each free GPU."""
        actors = free_gpus() if num_actors is None else num_actors
        return cls(folder=storage.join(output, UNFINISHED), model=resolve(model), model_id=model_id, actors=actors)


def extract_features(
    bundle: Bundle,
    annotations: Sequence[Annotation],
    features: FeatureConfig,
    device: str,
    workplace: Workplace | None = None,
) -> PixelFeatures:
    """Native-resolution activations of every annotated image in float16: memory-mapped on the CPU, or in GPU memory.

    Activations found at the `workplace` are not extracted again. Raises OSError, before any work, if the folder for
    temporary files has too little room, and StageError for later failures.
    """
    return extract_sources(bundle, sources_of(bundle, annotations), features, device, workplace)


def extract_sources(
    bundle: Bundle,
    sources: Sequence[Source],
    features: FeatureConfig,
    device: str,
    workplace: Workplace | None = None,
) -> PixelFeatures:
    """Like `extract_features`, for samples, or for images (S, S, 3) uint8 without annotations."""
    with tempfile.TemporaryDirectory() as temporary:
        uris = feature_uris(bundle, sources, features, workplace.folder if workplace else temporary)
        there = {file.uri for file in storage.list_files(workplace.folder)} if workplace else set()
        missing = {uri: source for uri, source in zip(uris, sources, strict=True) if uri not in there}
        if device == "cpu":
            _check_room(bundle, features, len(sources), len(missing), workplace)
        stored = PixelFeatures(
            num_images=len(sources), image_size=bundle.network.image_size, mode=features.upsample_mode, device=device
        )
        with work_began():
            if missing:
                _make(bundle, missing, features, device, workplace, total=len(set(uris)))
            for index, uri in enumerate(uris):
                stored.store(index, read_features(uri))
    return stored


def _make(
    bundle: Bundle,
    sources: dict[str, Source],
    features: FeatureConfig,
    device: str,
    workplace: Workplace | None,
    *,
    total: int,
) -> None:
    if workplace and workplace.actors:
        from ddpm_seg.training.ensemble.feature_actors import extract_on_actors  # Ray takes seconds to import

        made = extract_on_actors(
            sources,
            features,
            workplace.model,
            workplace.actors,
            image_size=bundle.network.image_size,
            model_id=workplace.model_id,
        )
    else:
        made = _extract_here(sources, FeatureExtractor(bundle, features, device))
    with Progress("features", total=total, unit="images") as progress:
        for number, _ in enumerate(made, start=total - len(sources) + 1):
            progress.at(number)


def _extract_here(sources: dict[str, Source], extractor: FeatureExtractor) -> Iterator[str]:
    for uri, source in sources.items():
        extractor.write(source, uri)
        yield uri


def _check_room(
    bundle: Bundle, features: FeatureConfig, num_images: int, num_missing: int, workplace: Workplace | None
) -> None:
    """Raises OSError if the temporary folder cannot hold the memory-mapped features and the files stored on local
    disk."""
    folder = tempfile.gettempdir()
    maps = zip(features.channels(bundle.network), features.sides(bundle.network), strict=True)
    each = ITEM_BYTES * sum(channels * side**2 for channels, side in maps)
    files = num_missing if workplace is None or storage.is_local(workplace.folder) else 0
    needed, free = each * (num_images + files), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the features of {num_images} images take {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB "
            "free; set TMPDIR to a folder with room, or train on fewer images, copies, steps or blocks"
        )
