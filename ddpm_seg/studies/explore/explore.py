"""What a network knows before anybody annotates: its activations' clusters, as masks to begin annotating with."""

# Shapes: N images, H x W an image's own size, K clusters.

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.csv_text import csv_text
from ddpm_seg.data.annotations.task_file import distinct_colors
from ddpm_seg.data.canvas import Placement, fit, restore_mask
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.exports.picture import Picture, safe_name, showable
from ddpm_seg.data.exports.png import write_png
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.sources import read_image
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.pages.explore_page import Explored, explore_page
from ddpm_seg.evaluation.tables.active import farthest_first
from ddpm_seg.fits import FitMode, chosen_fit
from ddpm_seg.model.bundle.ensemble_bundle import open_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import require_images
from ddpm_seg.progress import track
from ddpm_seg.runs.manifest import image_id, stored_uri
from ddpm_seg.studies.explore.cluster import cluster_pixels
from ddpm_seg.studies.explore.config import PAGE, TABLE, ExploreConfig
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.extraction import UNFINISHED, Workplace, extract_sources
from ddpm_seg.training.ensemble.few_shot import choose_features

logger = logging.getLogger(__name__)

READERS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """An image at the network's size."""

    uri: str
    image: NDArray[np.uint8]
    """(S, S, 3) uint8."""
    placement: Placement


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploration:
    """What `run_explore` found."""

    task: Task
    """One class per cluster."""
    features: FeatureConfig
    shares: NDArray[np.float32]
    """Share of each image's pixels by cluster, (N, K) float32."""


def run_explore(config: ExploreConfig) -> Exploration:
    """Writes images, masks of clusters, `task.json`, clusters.csv and explore.html.

    Before any work, raises ValueError (`BundleError`) or OSError for what the user can correct. Activations of an
    interrupted call are reused.
    """
    header, bundle = open_bundle(config.model)
    require_images(bundle.network)
    features = choose_features(bundle, config.steps, config.blocks)
    mode = chosen_fit(config.model, bundle.provenance, config.fit)
    _refuse_masks(config.output)
    storage.check_writable(config.output)
    workplace = Workplace.at(config.output, config.model, header.model_id, config.num_actors)
    seen = _read(config, bundle.network.image_size, mode)
    with work_began():
        maps = extract_sources(bundle, [one.image for one in seen], features, default_device(), workplace)
        inside = np.zeros((len(seen), bundle.network.image_size, bundle.network.image_size), bool)
        for one, pixels in zip(seen, inside, strict=True):
            one.placement.crop(pixels)[:] = True
        labels = cluster_pixels(maps, inside, config.clusters, config.seed)
        shares = np.stack([_shares(one, label, config.clusters) for one, label in zip(seen, labels, strict=True)])
        order = farthest_first(shares - shares.mean(axis=0), len(seen))
        found = Exploration(task=_task(config.clusters), features=features, shares=shares[order])
        _write(config, header.model_id, [seen[index] for index in order], labels[order], found)
        storage.delete(workplace.folder)
    return found


def _refuse_masks(output: str) -> None:
    """Raises ValueError if there are masks that no unfinished exploration wrote: somebody may have corrected them."""
    unfinished = any(True for _ in storage.list_files(storage.join(output, UNFINISHED)))
    masks = any(True for _ in storage.list_files(storage.join(output, "masks")))
    if masks and not unfinished:
        raise ValueError(
            f"{storage.redact(output)} has masks already, which may have been corrected: give another --output"
        )


def _read(config: ExploreConfig, size: int, mode: FitMode) -> list[Seen]:
    """The images, a random choice if there are too many, by URI; those that cannot be read are logged and left out."""
    listing = list_images(config.images)
    files = sorted(listing.files, key=lambda file: file.uri)
    for entry in listing.refused:
        logger.warning("%s is left out: %s", storage.redact(entry.uri), entry.reason)
    chosen = sorted(np.random.default_rng(config.seed).permutation(len(files))[: config.num_images].tolist())

    def read(index: int) -> Seen | None:
        uri = files[index].uri
        try:
            image, placement = fit(read_apart(read_image(uri)[0]).pixels, size, mode)
        except (OSError, ValueError) as error:  # ImageError, or an impossible file name
            logger.warning("%s is left out: %s", storage.redact(uri), error)
            return None
        return Seen(uri=uri, image=image, placement=placement)

    with ThreadPoolExecutor(READERS) as readers:
        every = track(readers.map(read, chosen), "reading", unit="images", total=len(chosen))
        seen = [one for one in every if one is not None]
    if not seen:
        raise ValueError(f"none of the {len(chosen)} images under {storage.redact(config.images)} could be read")
    return seen


def _task(clusters: int) -> Task:
    colours = tuple((red, green, blue) for red, green, blue in distinct_colors(clusters))
    return Task(name="clusters", class_names=tuple(f"cluster {i}" for i in range(clusters)), palette=colours)


def _shares(one: Seen, label: NDArray[np.uint8], clusters: int) -> NDArray[np.float32]:
    inside = one.placement.crop(label)
    return (np.bincount(inside.ravel(), minlength=clusters) / inside.size).astype(np.float32)


def _write(
    config: ExploreConfig, model_id: str, seen: Sequence[Seen], labels: NDArray[np.uint8], found: Exploration
) -> None:
    write_png(_pictures(seen, labels, model_id), found.task, config.output)
    storage.write_bytes(storage.join(config.output, TABLE), _csv(seen, found))
    explored = [
        Explored(
            uri=storage.redact(one.uri),
            image=one.placement.crop(one.image),
            mask=one.placement.crop(label),
            width=one.placement.image_width,
            height=one.placement.image_height,
        )
        for one, label in zip(seen, labels, strict=True)
    ]
    page = explore_page(
        explored, found.task, model=config.model, output=config.output, steps=found.features.steps,
        blocks=found.features.blocks,
    )  # fmt: skip
    storage.write_bytes(storage.join(config.output, PAGE), page.encode())


def _pictures(seen: Sequence[Seen], labels: NDArray[np.uint8], model_id: str) -> Iterator[Picture]:
    """The images with their masks at their own size. One that is gone by now is logged and left out."""
    for one, label in zip(track(seen, "masks", unit="images"), labels, strict=True):
        mask, uri = restore_mask(label, one.placement), stored_uri(one.uri)
        try:
            image, suffix = showable(read_image(one.uri)[0], *mask.shape)
        except (OSError, ValueError) as error:
            logger.warning("%s has no mask: %s", storage.redact(one.uri), error)
            continue
        nothing = float("nan")
        yield Picture(
            name=safe_name(uri, image_id(uri)), uri=uri, mask=mask, uncertainty=nothing, mean_confidence=nothing,
            model_id=model_id, image=image, suffix=suffix,
        )  # fmt: skip


def _csv(seen: Sequence[Seen], found: Exploration) -> bytes:
    """One row per image, those first that differ most from the others: its share of each cluster."""
    rows = []
    for one, shares_K in zip(seen, found.shares, strict=True):
        uri = stored_uri(one.uri)
        rows.append([uri, safe_name(uri, image_id(uri)), *(f"{share:.4f}" for share in shares_K)])
    return csv_text(["uri", "name", *found.task.class_names], rows).encode("utf-8", "backslashreplace")
