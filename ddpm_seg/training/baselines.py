"""The comparison: diffusion features and what they have to beat, each trained on the same few annotated avatars."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from ddpm_seg import storage
from ddpm_seg.data.annotations import Annotation, load_annotations
from ddpm_seg.evaluation.comparison import Result, scored, standing_result, write_result
from ddpm_seg.evaluation.score import Labeller, evaluate, labels_of
from ddpm_seg.model.bundle import NOISE, UNET, Bundle, load_bundle, read_header
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.unet import UNet
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble import EnsembleConfig
from ddpm_seg.training.few_shot import choose_features, train_bundle
from ddpm_seg.training.rgb_features import train_on_rgb
from ddpm_seg.training.supervised import SupervisedConfig, label_images, train_supervised

logger = logging.getLogger(__name__)

Method = Literal["diffusion", "rgb", "untrained", "supervised"]
Split = Literal["annotated-1", "annotated-2", "annotated-3", "annotated-4", "annotated-5", "plenty"]

TITLES: dict[Method, str] = {
    "diffusion": "diffusion features",
    "rgb": "RGB + coordinates",
    "untrained": "untrained UNet",
    "supervised": "supervised U-Net",
}
TASK = TASKS["avatars_10"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """Settings of `jobs.compare`."""

    avatars: str
    """Folder or URI prefix that `python -m jobs.avatars` wrote its splits to."""
    model: str
    """Name or URI of a bundle: its DDPM, its steps and its blocks. The ensemble is trained anew on every split."""
    output: str
    """Folder or URI prefix for the results. Those that stand there already are not made again."""
    methods: tuple[Method, ...] = get_args(Method)
    """What to compare."""
    splits: tuple[Split, ...] = get_args(Split)
    """What to train on; `plenty` (2,000 images) is for the supervised U-Net alone."""

    def parts(self) -> list[tuple[Method, Split]]:
        """Every training, in the table's order."""
        few: list[Split] = [split for split in self.splits if split != "plenty"]
        parts = [(method, split) for method in self.methods for split in few]
        ceiling: Split = "plenty"
        return parts + ([("supervised", ceiling)] if "supervised" in self.methods and ceiling in self.splits else [])


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all methods are trained with."""

    bundle: Bundle
    features: FeatureConfig
    weights: dict[str, str]
    """sha256 of the bundle's UNet and noise."""
    ensemble: EnsembleConfig
    supervised: SupervisedConfig
    device: str

    def labeller(self, method: Method, annotations: Sequence[Annotation]) -> Labeller:
        """What `method` learns from `annotations`."""
        if method == "supervised":
            images = np.stack([annotation.image for annotation in annotations])
            labels = np.stack([annotation.label for annotation in annotations])
            network = train_supervised(images, labels, TASK, self.supervised, self.device)
            return lambda images: label_images(network, images)
        if method == "rgb":
            return train_on_rgb(annotations, task=TASK, training=self.ensemble, mirror=True, device=self.device)
        bundle = untrained(self.bundle) if method == "untrained" else self.bundle
        trained = train_bundle(
            bundle,
            annotations,
            task=TASK,
            features=self.features,
            training=self.ensemble,
            mirror=True,
            device=self.device,
        )
        return labels_of(Segmenter(trained, device=self.device))

    def settings(self, method: Method) -> dict[str, Any]:
        """Whatever `method` depends on beside its pictures."""
        if method == "supervised":
            return asdict(self.supervised)
        if method == "rgb":
            return {"ensemble": asdict(self.ensemble), "mirror": True}
        network = self.weights if method == "diffusion" else asdict(self.bundle.unet)
        features = asdict(self.features)
        return {"ensemble": asdict(self.ensemble), "mirror": True, "features": features, "network": network}


def compare(
    config: CompareConfig,
    *,
    ensemble: EnsembleConfig = EnsembleConfig(),  # noqa: B008  frozen
    supervised: SupervisedConfig = SupervisedConfig(),  # noqa: B008  frozen
) -> list[Result]:
    """Trains what `config` asks for and scores it on the test avatars; each result is written as soon as it is there.

    A result that stands there from before is taken as it is where it comes of the same pictures, model and settings,
    and made anew otherwise. Raises ValueError (`BundleError`, `AnnotationError`) or OSError for whatever the user can
    mend, before training.
    """
    parts = config.parts()
    if not parts:
        raise ValueError(f"--methods {' '.join(config.methods)} --splits {' '.join(config.splits)}: nothing to train")
    bundle = load_bundle(config.model)
    training = Training(
        bundle=bundle,
        features=choose_features(bundle),
        weights={name: digest for name, digest in read_header(config.model).files.items() if name in (UNET, NOISE)},
        ensemble=ensemble,
        supervised=supervised,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    storage.check_writable(config.output)
    avatars = {
        split: load_annotations(storage.join(config.avatars, split), image_size=bundle.unet.image_size, task=TASK)
        for split in dict.fromkeys([*(split for _, split in parts), "test"])
    }
    return [_result(config, training, method, split, avatars[split], avatars["test"]) for method, split in parts]


def _result(
    config: CompareConfig,
    training: Training,
    method: Method,
    split: Split,
    annotations: Sequence[Annotation],
    test: Sequence[Annotation],
) -> Result:
    """The standing result of one method on one split, or a new one."""
    uri = storage.join(config.output, f"{method}-{split}.json")
    settings = {"method": training.settings(method), "train": digest(annotations), "test": digest(test)}
    settings = json.loads(json.dumps(settings))  # as it is read back: lists for tuples
    result = standing_result(uri, settings)
    if result is None:
        logger.info("%s on %s (%d images)", TITLES[method], split, len(annotations))
        label = training.labeller(method, annotations)
        title = f"{TITLES[method]}, {len(annotations)} images"
        result = scored(title, split, settings, evaluate(label, test, TASK), TASK)
        write_result(uri, result)
    logger.info("%s, %s: mean IoU %.4f", result.method, split, result.miou)
    return result


def untrained(bundle: Bundle) -> Bundle:
    """`bundle` with its UNet's weights as training would begin with them, from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dataclasses.replace(bundle, unet_weights=UNet(bundle.unet).state_dict())


def digest(annotations: Sequence[Annotation]) -> str:
    """16 hex digits over all pictures and masks."""
    sha256 = hashlib.sha256()
    for annotation in annotations:
        sha256.update(annotation.image.tobytes())
        sha256.update(annotation.label.tobytes())
    return sha256.hexdigest()[:16]
