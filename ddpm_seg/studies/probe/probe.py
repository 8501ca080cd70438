"""What each block knows at each timestep: one small ensemble for every pair, scored on held-out images.

DDPM-Seg's figure 3 asks this with an MLP on the features of one block at one step.
"""

# Shapes: P pixels, K classes.

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, labelled_pixels
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.model.bundle.ensemble_bundle import ENSEMBLE, Bundle, open_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import require_images
from ddpm_seg.studies.probe.config import ProbeConfig
from ddpm_seg.studies.results import Result, scored, stored_result, write_result
from ddpm_seg.studies.splits import Split, digest, load_splits
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.few_shot import choose_features
from ddpm_seg.training.ensemble.members import mean_softmax
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.ensemble.tuning import candidate_blocks, candidate_steps

logger = logging.getLogger(__name__)

Place = tuple[int | None, int]
"""A timestep, None for a network without them, and a block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """The scores of every step and block on every split, and which classes are small."""

    task: Task
    places: list[Place]
    results: dict[Place, list[Result]]
    """One per split."""
    small: tuple[str, ...]
    """Names of the classes that cover less than the median class, in the annotated training images."""


def run_probe(config: ProbeConfig) -> Probe:
    """Trains and scores a classifier for each step and block of `config`; writes each result as soon as it is known.

    Results from an earlier call are reused if images, model and settings are the same, and replaced otherwise. Before
    any training, raises ValueError (`BundleError`, `AnnotationError`) or OSError for what the user can correct.
    """
    task = find_task(config.task)
    header, bundle = open_bundle(config.model)
    require_images(bundle.network)
    features = choose_features(
        bundle,
        config.steps if config.steps is not None else candidate_steps(bundle.network),
        config.blocks if config.blocks is not None else candidate_blocks(bundle.network),
    )
    storage.check_writable(config.output)
    splits = load_splits(config, bundle, task)
    places: list[Place] = [(step, block) for step in features.steps or (None,) for block in features.blocks]
    workplace = Workplace.at(config.output, config.model, header.model_id, config.num_actors)
    weights = {name: sha for name, sha in header.files.items() if name != ENSEMBLE}
    training = EnsembleConfig(members=config.members, iterations=config.iterations, seed=config.seed)
    results: dict[Place, list[Result]] = {place: [] for place in places}
    with work_began():
        for split in splits:
            looking = _Looking(bundle, task, features, training, weights, split, workplace)
            for number, place in enumerate(places):
                results[place].append(looking.result(config.output, number, place))
        storage.delete(workplace.folder)
    small = small_classes([one for split in splits for one in split.train], task)
    return Probe(task=task, places=places, results=results, small=small)


def small_classes(annotations: Sequence[Annotation], task: Task) -> tuple[str, ...]:
    """Names of the classes that cover fewer pixels than the median one, among those that are annotated and scored."""
    every = np.concatenate([one.placement.crop(one.label).ravel() for one in annotations])
    counts = np.bincount(every, minlength=task.num_classes)[: task.num_classes]
    there = [i for i, count in enumerate(counts) if count and i != task.ignore_label]
    middle = np.median(counts[there])
    return tuple(task.class_names[i] for i in there if counts[i] < middle)


class _Looking:
    """One split, whose features are extracted when the first result is missing."""

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        features: FeatureConfig,
        training: EnsembleConfig,
        weights: dict[str, str],
        split: Split,
        workplace: Workplace,
    ) -> None:
        self.bundle, self.task, self.features, self.training = bundle, task, features, training
        self.split, self.workplace = split, workplace
        self.settings = {
            "task": task.to_dict(),
            "network": weights,
            "training": asdict(training),
            "train": digest(split.train),
            "test": digest(split.test),
        }
        self.maps: tuple[PixelFeatures, PixelFeatures] | None = None

    def result(self, output: str, number: int, place: Place) -> Result:
        """The stored result of the step and block that come `number`th in the features, or a new one."""
        name = _name(place)
        uri = storage.join(output, f"{name.replace(' ', '-')}-{self.split.name}.json")
        step, block = place
        settings = {"step": step, "block": block, **self.settings}
        settings = json.loads(json.dumps(settings))  # as it is read back: lists instead of tuples
        found = stored_result(uri, settings)
        if found is None:
            found = scored(name, self.split.name, settings, self._confusion(number), self.task)
            write_result(uri, found)
        logger.info("%s, %s: mean IoU %.4f", name, self.split.name, found.miou)
        return found

    def _confusion(self, number: int) -> NDArray[np.int64]:
        if self.maps is None:
            train, test = (
                extract_features(self.bundle, images, self.features, default_device(), self.workplace)
                for images in (self.split.train, self.split.test)
            )
            self.maps = train, test
        train, test = (maps.select([number]) for maps in self.maps)
        pixels, classes = labelled_pixels([one.label for one in self.split.train], self.task)
        members = train_members(
            train, torch.from_numpy(pixels), torch.from_numpy(classes).long(), self.task.num_classes, self.training
        )
        total = np.zeros((self.task.num_classes + 1,) * 2, dtype=np.int64)
        for index, annotation in enumerate(self.split.test):
            size = annotation.label.size
            x_PD = test.gather(torch.arange(index * size, (index + 1) * size))
            p_PK = mean_softmax((member.weights for member in members), x_PD)
            found = p_PK.argmax(dim=1).to(torch.uint8).cpu().numpy().reshape(annotation.label.shape)
            crop = annotation.placement.crop
            total += confusion_matrix(crop(found), crop(annotation.label), self.task.num_classes)
        return total


def _name(place: Place) -> str:
    step, block = place
    return f"block {block}" if step is None else f"step {step} block {block}"
