"""Compares diffusion features with simpler methods, each trained on the same few annotated images."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.scores.score import Labeller, evaluate, labels_of
from ddpm_seg.model.bundle.ensemble_bundle import ENSEMBLE, Bundle, open_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.studies.compare_config import CompareConfig, Method
from ddpm_seg.studies.results import PLENTY, Result, scored, stored_result, write_result
from ddpm_seg.studies.splits import Split, digest, load_splits, loader
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.few_shot import choose_features, train_bundle
from ddpm_seg.training.rivals.rgb_features import train_on_rgb
from ddpm_seg.training.rivals.supervised import SupervisedConfig, label_images, train_supervised

logger = logging.getLogger(__name__)

TITLES: dict[Method, str] = {
    "diffusion": "diffusion features",
    "rgb": "RGB + coordinates",
    "untrained": "untrained UNet",
    "supervised": "supervised U-Net",
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all methods share for training."""

    task: Task
    bundle: Bundle
    features: FeatureConfig
    weights: dict[str, str]
    """SHA-256 of the bundle's network and noise files, by name."""
    ensemble: EnsembleConfig
    supervised: SupervisedConfig
    copies: Copies
    device: str

    def labeller(self, method: Method, annotations: Sequence[Annotation]) -> Labeller:
        """Trains `method` on `annotations`; returns a function that labels images."""
        if method == "supervised":
            images = np.stack([annotation.image for annotation in annotations])
            labels = np.stack([annotation.label for annotation in annotations])
            network = train_supervised(images, labels, self.task, self.supervised, self.device)
            return lambda images: label_images(network, images)
        if method == "rgb":
            return train_on_rgb(
                annotations, task=self.task, training=self.ensemble, copies=self.copies, device=self.device
            )
        bundle = untrained(self.bundle) if method == "untrained" else self.bundle
        trained = train_bundle(
            bundle,
            annotations,
            task=self.task,
            features=self.features,
            training=self.ensemble,
            copies=self.copies,
            device=self.device,
        )
        return labels_of(Segmenter(trained, device=self.device))

    def settings(self, method: Method) -> dict[str, Any]:
        """The settings that the result of `method` depends on, besides its images."""
        if method == "supervised":
            return asdict(self.supervised)
        if method == "rgb":
            return {"ensemble": asdict(self.ensemble), "copies": asdict(self.copies)}
        network = self.weights if method == "diffusion" else self.bundle.network.architecture()
        own = {"features": self.features.to_json(), "network": network}
        return {"ensemble": asdict(self.ensemble), "copies": asdict(self.copies), **own}

    def title(self, method: Method) -> str:
        """The name of `method` in the table."""
        kind = self.bundle.network.title
        own = {} if kind == "DDPM" else {"diffusion": f"{kind} features", "untrained": f"untrained {kind}"}
        return own.get(method, TITLES[method])


def compare(
    config: CompareConfig,
    *,
    ensemble: EnsembleConfig = EnsembleConfig(),  # noqa: B008  frozen
    supervised: SupervisedConfig = SupervisedConfig(),  # noqa: B008  frozen
) -> list[Result]:
    """Trains and scores the methods of `config`; writes each result as soon as it is known.

    Results from an earlier call are reused if images, model and settings are the same, and replaced otherwise. Before
    any training, raises ValueError (`BundleError`, `AnnotationError`) or OSError for what the user can correct.
    """
    task = find_task(config.task)
    header, bundle = open_bundle(config.model)
    training = Training(
        bundle=bundle,
        task=task,
        features=choose_features(bundle),
        weights={name: digest for name, digest in header.files.items() if name != ENSEMBLE},
        ensemble=ensemble,
        supervised=supervised,
        copies=Copies(mirror=config.mirror, recolour=config.recolour),
        device=default_device(),
    )
    storage.check_writable(config.output)
    splits = load_splits(config, bundle, task)
    parts = [(method, split) for method in config.methods for split in splits]
    if config.plenty is not None and "supervised" in config.methods:
        parts.append(("supervised", _plenty(loader(config, bundle, task)(config.plenty), splits[0].test)))
    uris = [storage.join(config.output, f"{method}-{split.name}.json") for method, split in parts]
    with work_began():
        return [method_result(uri, training, method, split) for uri, (method, split) in zip(uris, parts, strict=True)]


def _plenty(many: Sequence[Annotation], test: Sequence[Annotation]) -> Split:
    """The split for the upper bound. Raises ValueError if it would be trained on images that it is scored on."""
    scored = {one.digest for one in test}
    if seen := sum(one.digest in scored for one in many):
        raise ValueError(
            f"{seen} of the {len(many)} images of --plenty are among those to score on: leave them out, or give --test "
            "with others"
        )
    return Split(name=PLENTY, train=many, test=test)


def method_result(uri: str, training: Training, method: Method, split: Split) -> Result:
    """The result of one method on one split: the one stored at `uri` if it has the same settings, else a new one, which
    is then stored there."""
    settings = {
        "task": training.task.to_dict(),
        "method": training.settings(method),
        "train": digest(split.train),
        "test": digest(split.test),
    }
    settings = json.loads(json.dumps(settings))  # as it is read back: lists instead of tuples
    result = stored_result(uri, settings)
    if result is None:
        logger.info("%s on %s (%d images)", training.title(method), split.name, len(split.train))
        label = training.labeller(method, split.train)
        title = f"{training.title(method)}, {len(split.train)} images"
        result = scored(title, split.name, settings, evaluate(label, split.test, training.task), training.task)
        write_result(uri, result)
    logger.info("%s, %s: mean IoU %.4f", result.method, split.name, result.miou)
    return result


def untrained(bundle: Bundle) -> Bundle:
    """`bundle` with its network's weights replaced by initial random ones, from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dataclasses.replace(bundle, weights=bundle.network.build().state_dict())
