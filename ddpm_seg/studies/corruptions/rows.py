"""The models that a study of corruptions compares: how each is trained, and on which images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.model.bundle.ensemble_bundle import ENSEMBLE, open_bundle
from ddpm_seg.model.network import require_images
from ddpm_seg.studies.corruptions.cells import Corruption, Tests
from ddpm_seg.studies.corruptions.config import SUPERVISED, CorruptionsConfig, name_of
from ddpm_seg.studies.corruptions.labellers import EnsembleRecipe, Recipe, SupervisedRecipe
from ddpm_seg.studies.splits import Split, digest, load_splits, loader
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.few_shot import choose_features
from ddpm_seg.training.rivals.supervised import SupervisedConfig


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of the table."""

    name: str
    task: Task
    recipe: Recipe
    splits: Sequence[Split]
    others: dict[str, list[Annotation]]
    """More sets to score on, by their names."""

    def settings(self, corruption: Corruption) -> dict[str, Any]:
        """Everything that the scores under `corruption` depend on, with JSON's types."""
        test = self._test_digests.get(corruption.kind, self._test_digests[""])
        content = {"task": self.task.to_dict(), **self.recipe.settings(), "train": self._train_digests, "test": test}
        return json.loads(json.dumps(content))  # as it is read back: lists instead of tuples

    def tests(self) -> dict[str, Tests]:
        """The images to score on, as `Scorer` takes them."""
        own = Tests.of([split.test for split in self.splits])
        return {"": own} | {name: Tests.of([other] * len(self.splits)) for name, other in self.others.items()}

    def models(self, output: str) -> list[str]:
        """Where each split's model is kept: in a folder named by a hash of all that it depends on."""
        how = repr((self.task.to_dict(), self.recipe.settings()))
        named = [hashlib.sha256((how + images).encode()).hexdigest()[:12] for images in self._train_digests]
        names = [f"model-{split.name}-{hashed}" for split, hashed in zip(self.splits, named, strict=True)]
        return [storage.join(output, self.name, name) for name in names]

    @cached_property
    def _train_digests(self) -> list[str]:
        return [digest(split.train) for split in self.splits]

    @cached_property
    def _test_digests(self) -> dict[str, list[str]]:
        own = [digest(split.test) for split in self.splits]
        return {"": own} | {name: [digest(other)] for name, other in self.others.items()}


def rows_of(config: CorruptionsConfig, task: Task, supervised: SupervisedConfig) -> list[Row]:
    """One row per network; then the supervised U-Net, on the images of the first.

    Raises ValueError (`BundleError`, `AnnotationError`) or OSError for what the user can correct.
    """
    rows = [_ensembles(config, task, model) for model in config.model]
    if config.supervised:
        recipe = SupervisedRecipe(
            task=task, training=replace(supervised, seed=config.seed, iterations=config.iterations)
        )
        rows.append(replace(rows[0], name=SUPERVISED, recipe=recipe))
    return rows


def _ensembles(config: CorruptionsConfig, task: Task, model: str) -> Row:
    header, bundle = open_bundle(model)
    require_images(bundle.network)
    recipe = EnsembleRecipe(
        bundle=bundle,
        task=task,
        features=choose_features(bundle),
        weights={name: sha for name, sha in header.files.items() if name != ENSEMBLE},
        training=EnsembleConfig(members=config.members, iterations=config.iterations, seed=config.seed),
        copies=Copies(mirror=config.mirror, recolour=config.recolour),
    )
    load = loader(config, bundle, task)
    return Row(
        name=name_of(model),
        task=task,
        recipe=recipe,
        splits=[replace(split, test=split.test[: config.limit]) for split in load_splits(config, bundle, task)],
        others={name_of(uri): load(uri, limit=config.limit) for uri in config.others},
    )
