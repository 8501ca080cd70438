"""Trains and scores ensembles on the features of a published network, on the splits of a benchmark."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.errors import work_began
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, open_bundle, read_header, save_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.published.flags import split_model_flags
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.studies.evaluate import EvaluateConfig, evaluate_annotations
from ddpm_seg.studies.reproduce.config import ReproduceConfig
from ddpm_seg.studies.reproduce.published_scores import BENCHMARKS, NetworkName
from ddpm_seg.studies.reproduce.reproduced import Reproduced, place, reproduced
from ddpm_seg.studies.splits import Split, draw_splits
from ddpm_seg.tasks import TASKS, Task
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import PUBLISHED, EnsembleConfig
from ddpm_seg.training.ensemble.extraction import Workplace
from ddpm_seg.training.ensemble.few_shot import choose_features, train_bundle

logger = logging.getLogger(__name__)

STEPS, BLOCKS = (50, 150, 250), (5, 6, 7, 8, 12)
"""What the published DDPM experiments read, whatever the network's depth."""

_FILES = {
    "ddpm": "ddpm/{}.pt",
    "mae": "mae/{}.pth",
    "swav": "swav/{}.pth",
    "swav-w2": "swav_w2/{}.pth",
    "vdvae": "vdvae/{}.th",
    "alae": "alae/{}.pth",
    "gan-inversion": "e4e/{}.pt",
    "gan-encoder": "e4e/{}.pt",
}


def checkpoint_of(config: ReproduceConfig, network: NetworkName, task: str) -> str:
    """The URI of the network's checkpoint, which need not exist."""
    uri = storage.join(config.checkpoints, _FILES[network].format(BENCHMARKS[task].images))
    if len(config.networks()) == 1 and not storage.exists(uri):
        return storage.join(config.checkpoints, uri.rpartition("/")[2])
    return uri


def ensemble_scores(config: ReproduceConfig, network: NetworkName, task: str) -> list[Reproduced]:
    """One score per split. Models that exist at the output are reused; an interrupted training goes on.

    Raises ValueError for a model that was trained with other settings.
    """
    uri = _converted(config, network, task)
    header, bundle = open_bundle(uri)
    features = choose_features(bundle, STEPS, BLOCKS) if network == "ddpm" else bundle.network.published_features()
    start = dataclasses.replace(bundle, features=features)
    scores = []
    for number, split in enumerate(_splits(config, task, bundle.network.image_size), start=1):
        model = storage.join(config.output, "models", place(network, task, number))
        if storage.exists(storage.join(model, "bundle.json")):
            _refuse_other_settings(config, model)
            logger.info("%s, %s: using the existing model at %s", network, task, model)
        else:
            workplace = Workplace.at(model, uri, header.model_id, num_actors=None)
            _train(config, start, split, TASKS[task], workplace, model)
        found = _evaluate(config, task, split, model, storage.join(config.output, place(network, task, number)))
        scores.append(reproduced(network, task, split.name, found))
    return scores


def _training(config: ReproduceConfig) -> EnsembleConfig:
    iterations = PUBLISHED.iterations if config.iterations is None else config.iterations
    return dataclasses.replace(PUBLISHED, members=config.members, iterations=iterations)


def _refuse_other_settings(config: ReproduceConfig, model: str) -> None:
    """Raises ValueError if the ensemble at `model` was trained in another way than `config` asks for."""
    before = read_trained_header(model)[0].provenance["ensemble"]["training"]
    for name in ("members", "iterations"):
        if before[name] != (asked := getattr(_training(config), name)):
            raise ValueError(
                f"{storage.redact(model)} was trained with {name} {before[name]}, expected {asked}: give another "
                f"--output, or the --{name} that it was trained with"
            )


def _train(config: ReproduceConfig, start: Bundle, split: Split, task: Task, workplace: Workplace, model: str) -> None:
    assert start.features is not None
    trained = train_bundle(
        start,
        [dataclasses.replace(one, own=None) for one in split.train],
        task=task,
        features=start.features,
        training=_training(config),
        copies=Copies(),
        device=default_device(),
        workplace=workplace,
    )
    with work_began():
        save_bundle(trained, model)
        storage.delete(workplace.folder)


def _evaluate(config: ReproduceConfig, task: str, split: Split, model: str, output: str) -> dict[str, Any]:
    header, own_task = read_trained_header(model)
    images = storage.join(config.datasets, task, "real")
    return evaluate_annotations(EvaluateConfig(images=images, output=output, model=model), header, own_task, split.test)


def _splits(config: ReproduceConfig, task: str, image_size: int) -> list[Split]:
    """The published split, and random ones of the same images with as many to train on."""

    def load(part: str, limit: int) -> list[Annotation]:
        uri = storage.join(config.datasets, task, "real", part)
        return load_annotations(uri, image_size=image_size, task=TASKS[task], limit=limit, own_size=True)

    benchmark = BENCHMARKS[task]
    train, test = load("train", benchmark.training_images), load("test", benchmark.testing_images)
    published = Split(name="published", train=train, test=test)
    if config.splits == 1:
        return [published]
    return [published, *draw_splits([*train, *test], count=config.splits - 1, shots=len(train))]


def _converted(config: ReproduceConfig, network: NetworkName, task: str) -> str:
    """Converts the checkpoint to a bundle, unless it exists, with the noise that the published scripts draw on a GPU;
    returns its URI. Raises ValueError if that bundle was converted with other flags."""
    uri = storage.join(config.output, "models", f"{network}-{BENCHMARKS[task].images}")
    if not storage.exists(storage.join(uri, "bundle.json")):
        given: dict[str, Any] = {network.replace("-", "_"): checkpoint_of(config, network, task)}
        if network == "ddpm":
            given["model_flags"] = config.model_flags
        save_bundle(convert(ConvertConfig(output=uri, **given)), uri)
    elif network == "ddpm":
        before = read_header(uri).provenance["converted"]["model_flags"]
        if before != split_model_flags(config.model_flags):
            raise ValueError(
                f"{storage.redact(uri)} was converted with other --model-flags ({before}): give another --output, or "
                "those"
            )
    return uri
