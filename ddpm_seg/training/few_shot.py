"""From a network and a few annotated images to a bundle with a trained ensemble (DDPM-Seg, section 3)."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.cluster.training_workers import free_gpus
from ddpm_seg.data.annotations.load import Annotation, labelled_pixels, load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.data.annotations.report import describe
from ddpm_seg.data.task_file import find_task
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation import learnt_from
from ddpm_seg.evaluation.miou import published_miou
from ddpm_seg.evaluation.score import evaluate, labels_of
from ddpm_seg.model.bundle import Bundle, open_bundle, save_bundle
from ddpm_seg.model.bundle_files import refuse_standing_bundle, resolve
from ddpm_seg.model.devices import chosen_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import Task
from ddpm_seg.training.copies import Copies
from ddpm_seg.training.ensemble import PUBLISHED, EnsembleConfig, train_members
from ddpm_seg.training.extraction import Workplace, extract_features
from ddpm_seg.training.feature_files import feature_uris
from ddpm_seg.training.tuning import describe_frontier, frontier, tune

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(AnnotationOptions):
    """Settings of `jobs.train`."""

    model: str
    """Name or URI of a bundle: a DDPM, a MAE or a SwAV, or a trained bundle whose ensemble is replaced."""
    images: str
    """Annotated images: a folder or prefix with X.png beside X.npy, or with images/X.jpg and masks/X.png; a .parquet
    table with masks, such as our labels; COCO's or Label Studio's .json; or CVAT's .xml."""
    task: str
    """What the class ids mean: the name of a task, or a .yaml or .json file with class_names."""
    output: str
    """Where the new bundle is written."""
    members: int = 10
    """Classifiers in the ensemble."""
    tune: bool = False
    """First try steps and blocks by cross-validation on these images, show quality and cost, train with the best."""
    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to read features at. Default: the bundle's own, else 50 150 250 (of 1000). Not of a MAE or
    SwAV, which see the image as it is."""
    blocks: tuple[int, ...] | None = None
    """Blocks to read. Default: the bundle's own, else the published ones. A DDPM's decoder blocks are counted from 0 at
    the lowest resolution, a MAE's and a SwAV's blocks from 0 at the image."""
    upsample_mode: Literal["bilinear", "nearest"] | None = None
    """How features are brought to pixels. Default: the bundle's own, else bilinear."""
    mirror: bool = False
    """Train on every image's mirror image too: better masks, but not where classes tell left from right."""
    recolour: int = 0
    """Train on so many slightly recoloured copies of every image too: better masks from few images, for as much more
    time and memory."""
    recipe: Literal["cosine", "published"] = "cosine"
    """Batches of 256 standardised pixels, and a learning rate that falls to zero; or the published training: batches of
    64, a constant rate, and each member stops when its loss does."""
    iterations: int | None = None
    """Batches a member is trained on. Default: 1500; with --recipe published no limit but 100 epochs."""
    seed: int = 0
    """Of the members' first weights and their orders of pixels; the same seed gives the same bundle."""
    limit: int | None = None
    """Train on the first so many images only, by name."""
    validation: str | None = None
    """Folder or URI prefix of annotated images to score the finished bundle on (published mean IoU)."""
    num_actors: int | None = None
    """Ray actors that bring the images through the network, which pays from hundreds of images on. Default: one for
    each free GPU of the cluster; without, this process alone."""
    device: str | None = None
    """Where torch computes. Default: a GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        check_least(self, members=1, recolour=0, iterations=1, seed=0, limit=1, num_actors=0)
        for name in ("steps", "blocks"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} names none; give some, or leave it out")


def train_from_config(config: TrainConfig) -> Bundle:
    """Trains and writes the bundle that `config` asks for, or goes on with an interrupted training at the same output.

    Until it is finished there is no bundle, only what is kept under "unfinished". Raises ValueError (`BundleError`,
    `AnnotationError`) or OSError for whatever the user can mend, before training; StageError for work that failed on
    the cluster.
    """
    device = str(chosen_device(config.device))
    recipe = PUBLISHED if config.recipe == "published" else EnsembleConfig()
    iterations = recipe.iterations if config.iterations is None else config.iterations
    training = dataclasses.replace(recipe, members=config.members, iterations=iterations, seed=config.seed)
    copies = Copies(mirror=config.mirror, recolour=config.recolour)
    if config.tune and (config.steps or config.blocks):
        raise ValueError("--tune chooses the steps and blocks: leave out --steps and --blocks, or --tune")
    task = find_task(config.task)
    header, bundle = open_bundle(config.model)
    features = choose_features(bundle, config.steps, config.blocks, config.upsample_mode)
    refuse_standing_bundle(config.output)
    storage.check_writable(config.output)
    size = bundle.network.image_size
    annotations = load_annotations(config.images, image_size=size, task=task, limit=config.limit, options=config)
    held_out = (
        load_annotations(config.validation, image_size=size, task=task, options=config) if config.validation else []
    )
    logger.info("%d annotated images:\n%s", len(annotations), describe(annotations, task))
    workplace = Workplace(
        folder=storage.join(storage.normalize(config.output), UNFINISHED),
        model=resolve(config.model),
        model_id=header.model_id,
        actors=free_gpus() if config.num_actors is None else config.num_actors,
    )
    if config.tune:
        trials = tune(
            bundle, annotations, task, upsample_mode=features.upsample_mode, device=device, workplace=workplace
        )
        logger.info("steps and blocks:\n%s", describe_frontier(trials))
        best = frontier(trials)[-1]
        features = dataclasses.replace(features, steps=best.steps, blocks=best.blocks)
    trained = train_bundle(
        bundle,
        annotations,
        task=task,
        features=features,
        training=training,
        copies=copies,
        device=device,
        workplace=workplace,
    )
    if held_out:
        miou = score(trained, held_out, device=device)
        logger.info("mean IoU on %d validation images: %.4f", len(held_out), miou)
        validation = {"images": len(held_out), "published_miou": miou}
        trained = dataclasses.replace(trained, provenance={**trained.provenance, "validation": validation})
    with work_began():
        save_bundle(trained, config.output)
        storage.delete(workplace.folder)
    return trained


def choose_features(
    bundle: Bundle,
    steps: tuple[int, ...] | None = None,
    blocks: tuple[int, ...] | None = None,
    upsample_mode: Literal["bilinear", "nearest"] | None = None,
) -> FeatureConfig:
    """What is asked for, else what the bundle was trained with, else the published choice scaled to its network.

    Raises ValueError for a step or block that the network does not have.
    """
    chosen = bundle.features or bundle.network.published_features()
    features = FeatureConfig(
        steps=chosen.steps if steps is None else steps,
        blocks=tuple(sorted(set(chosen.blocks if blocks is None else blocks))),
        upsample_mode=upsample_mode or chosen.upsample_mode,
    )
    features.check(bundle.network)
    return features


def train_bundle(
    bundle: Bundle,
    annotations: Sequence[Annotation],
    *,
    task: Task,
    features: FeatureConfig,
    training: EnsembleConfig,
    copies: Copies = Copies(),  # noqa: B008  frozen
    device: str = "cpu",
    workplace: Workplace | None = None,
) -> Bundle:
    """`bundle` with an ensemble for `task` trained on `annotations` and `copies` of them; its provenance says how.

    What stands at the `workplace` from an interrupted training of the same images and settings is used.
    """
    shown = copies.added_to(annotations, training.seed)
    pixels, labels = labelled_pixels([annotation.label for annotation in shown], task)
    logger.info("%d annotated images, %d labelled pixels", len(annotations), len(pixels))
    maps = extract_features(bundle, shown, features, device, workplace)
    with work_began():
        trained = train_members(
            maps,
            torch.from_numpy(pixels),
            torch.from_numpy(labels).long(),
            task.num_classes,
            training,
            state_uri=_state_uri(bundle, shown, task, features, training, workplace) if workplace else None,
        )
    how: dict[str, Any] = {
        "images": len(annotations),
        "copies": dataclasses.asdict(copies),
        "labelled_pixels": len(pixels),
        "training": dataclasses.asdict(training),
        "iterations": [member.iterations for member in trained],
        "final_loss": [member.loss for member in trained],
    }
    return dataclasses.replace(
        bundle,
        features=features,
        task=task,
        members=tuple(member.weights for member in trained),
        # A score of the ensemble that stood here before says nothing of this one.
        provenance={
            **{k: v for k, v in bundle.provenance.items() if k != "validation"},
            "ensemble": how,
            learnt_from.KEY: learnt_from.record(annotations),
        },
    )


def _state_uri(
    bundle: Bundle,
    shown: Sequence[Annotation],
    task: Task,
    features: FeatureConfig,
    training: EnsembleConfig,
    workplace: Workplace,
) -> str:
    """Where the members' unfinished training is kept: named by all that it depends on."""
    named = hashlib.sha256(repr((task.num_classes, task.ignore_label, training)).encode())
    for uri in feature_uris(bundle, [annotation.image for annotation in shown], features, workplace.folder):
        named.update(uri.encode())
    for annotation in shown:
        named.update(np.ascontiguousarray(annotation.label).data)
    return storage.join(workplace.folder, f"members-{named.hexdigest()[:32]}.pt")


def score(bundle: Bundle, annotations: Sequence[Annotation], *, device: str | None = None) -> float:
    """Published mean IoU in [0, 1] of `bundle` on annotated images, at the network's resolution, padding left out."""
    segmenter = Segmenter(bundle, device=device)
    return published_miou(evaluate(labels_of(segmenter), annotations, segmenter.task), segmenter.task.ignore_label)
