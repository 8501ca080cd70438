"""The models that a study of corruptions trains: one per split, and how they label images together."""

# Shapes: N images of S x S pixels, the network's side.

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.plain_unet import PlainUNet
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.studies.splits import Split
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import UNFINISHED, Workplace
from ddpm_seg.training.ensemble.few_shot import train_bundle
from ddpm_seg.training.rivals.supervised import SupervisedConfig, label_images, train_supervised


@dataclass(frozen=True, slots=True)
class Labelled:
    """What one split's model says about one image."""

    label: NDArray[np.uint8]
    """(S, S) class ids."""
    domain_distance: float | None
    """How far the image lies from those that the model was trained on, see `model.domain`; None if it cannot tell."""


class Labellers(Protocol):
    """The models of all splits."""

    def __call__(self, images: NDArray[np.uint8]) -> Iterator[list[Labelled]]:
        """For each of `images` (N, S, S, 3) uint8, what each split's model says."""


class Recipe(Protocol):
    """How to train a model on a split, and where to keep it."""

    def settings(self) -> dict[str, Any]:
        """What a model depends on beside its images."""

    def train(self, split: Split, uri: str) -> None:
        """Trains on `split`; writes the model under `uri`, unless it is there."""

    def loader(self, uris: Sequence[str]) -> Callable[[], Labellers]:
        """Loads the models under `uris`, wherever it is called."""


@dataclass(frozen=True, kw_only=True)
class EnsembleRecipe:
    """Ensembles on the features of one network."""

    bundle: Bundle
    task: Task
    features: FeatureConfig
    weights: dict[str, str]
    """SHA-256 of the network's files, by name."""
    training: EnsembleConfig
    copies: Copies

    def settings(self) -> dict[str, Any]:
        own = {"features": self.features.to_json(), "network": self.weights}
        return {"ensemble": dataclasses.asdict(self.training), "copies": dataclasses.asdict(self.copies), **own}

    def train(self, split: Split, uri: str) -> None:
        if storage.exists(storage.join(uri, "bundle.json")):
            return
        workplace = Workplace(folder=storage.join(uri, UNFINISHED))
        trained = train_bundle(
            self.bundle,
            split.train,
            task=self.task,
            features=self.features,
            training=self.training,
            copies=self.copies,
            device=default_device(),
            workplace=workplace,
        )
        save_bundle(trained, uri)
        storage.delete(workplace.folder)

    def loader(self, uris: Sequence[str]) -> Callable[[], Labellers]:
        return partial(OneNetwork, uris)


class OneNetwork:
    """Ensembles on one network, which each image passes through once."""

    def __init__(self, uris: Sequence[str]) -> None:
        device, bundles = default_device(), [load_bundle(uri) for uri in uris]
        self.extract = resident_extractor(bundles[0], device)
        self.models = [Segmenter(bundle, device=device, extractor=self.extract) for bundle in bundles]
        self.features, self.batch = self.models[0].features, self.models[0].batch

    def __call__(self, images: NDArray[np.uint8]) -> Iterator[list[Labelled]]:
        def answers_from(first: int, micro_batch: int) -> Iterator[list[Labelled]]:
            group = images[first : first + max(1, micro_batch // self.features.passes)]
            with torch.inference_mode():
                maps = self.extract(group, self.features, micro_batch=micro_batch)
                columns = [self._answers(model, maps) for model in self.models]
            return map(list, zip(*columns, strict=True))

        return self.batch.run(len(images), answers_from)

    def _answers(self, model: Segmenter, maps: list[torch.Tensor]) -> list[Labelled]:
        known = None if model.domain is None else model.domain.distances(maps).tolist()
        labels = [pixels.label for pixels in model.segment_maps(maps)]
        return [Labelled(label, known[index] if known else None) for index, label in enumerate(labels)]


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe:
    """The small U-Net of jobs.compare, trained from scratch."""

    task: Task
    training: SupervisedConfig

    def settings(self) -> dict[str, Any]:
        return {"supervised": dataclasses.asdict(self.training)}

    def train(self, split: Split, uri: str) -> None:
        if storage.exists(_weights(uri)):
            return
        images, labels = (np.stack([getattr(one, name) for one in split.train]) for name in ("image", "label"))
        network = train_supervised(images, labels, self.task, self.training, default_device())
        tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
        storage.write_bytes(_weights(uri), safetensors.torch.save(tensors))

    def loader(self, uris: Sequence[str]) -> Callable[[], Labellers]:
        shape = {"width": self.training.width, "levels": self.training.levels}
        return partial(SeveralUNets, [_weights(uri) for uri in uris], self.task.num_classes, **shape)


class SeveralUNets:
    """One U-Net for each split: here each image passes through all of them."""

    def __init__(self, files: Sequence[str], num_classes: int, *, width: int, levels: int) -> None:
        self.networks = []
        for file in files:
            network = PlainUNet(num_classes, width=width, levels=levels)
            network.load_state_dict(safetensors.torch.load(storage.read_bytes(file)))
            self.networks.append(network.to(default_device()).eval())

    def __call__(self, images: NDArray[np.uint8]) -> Iterator[list[Labelled]]:
        for found in zip(*(label_images(network, images) for network in self.networks), strict=True):
            yield [Labelled(label, None) for label in found]


def _weights(uri: str) -> str:
    return storage.join(uri, "unet.safetensors")
