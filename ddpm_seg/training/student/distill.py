"""Trains a student on labelled samples (DatasetDDPM's last step) or labelled images, so that it labels by itself."""

from __future__ import annotations

import dataclasses
import json
import logging
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import Worker, free_gpus
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.scores import learnt_from
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate
from ddpm_seg.fits import with_fit
from ddpm_seg.model.bundle.files import refuse_existing_bundle
from ddpm_seg.model.bundle.student_bundle import (
    AnyStudent,
    StudentBundle,
    StudentHeader,
    read_student_header,
    save_student,
)
from ddpm_seg.model.networks.student import StudentConfig, backbone_weights
from ddpm_seg.model.networks.unet_student import UNetStudentConfig
from ddpm_seg.model.published.state_dicts import read_checkpoint, state_dict
from ddpm_seg.progress import Progress
from ddpm_seg.training.processes import train_in
from ddpm_seg.training.rivals.supervised import usable_labels
from ddpm_seg.training.saving import Saving, keeping
from ddpm_seg.training.student.annotated_set import AnnotatedSet
from ddpm_seg.training.student.distill_config import DistillConfig
from ddpm_seg.training.student.label_stream import LabelStream
from ddpm_seg.training.student.sample_stream import SampleStream
from ddpm_seg.training.student.student_training import StudentTraining

logger = logging.getLogger(__name__)

STATE = "unfinished_training.pt"
SAVE_SECONDS = 180.0


def distill(config: DistillConfig) -> StudentHeader:
    """Trains a student and writes its bundle; resumes an interrupted training at the same output.

    Raises ValueError (`AnnotationError`) or OSError, before any training, for mistakes that the user can fix.
    """
    refuse_existing_bundle(config.output)
    storage.check_writable(config.output)
    workers = config.num_workers if config.num_workers is not None else free_gpus()
    if workers < 0 or 2 * workers > config.batch_size:
        raise ValueError(
            f"num_workers is {workers}, expected 0 to {config.batch_size // 2}: "
            f"each worker needs two images of every batch of {config.batch_size}"
        )
    stream = _stream(config)
    student = _student_config(config, stream)
    _source(config, stream).num_batches(config.seed, 0, config.batch_size // max(1, workers), max(1, workers))
    if config.backbone_weights is not None and isinstance(student, StudentConfig):
        backbone_weights(_read_weights(config.backbone_weights), student)
    if workers and config.validation is not None:  # reports a mistake before any worker starts
        _annotations(config.validation, config, stream)
    train_in(workers, partial(_train, settings=_settings(config, stream)), config)
    return read_student_header(config.output)


def kept_or_distilled(config: DistillConfig) -> StudentHeader:
    """The student at the output; if there is none, `distill`. Raises ValueError for one with other settings."""
    if not storage.exists(storage.join(config.output, "bundle.json")):
        return distill(config)
    found = read_student_header(config.output)
    stream = _stream(config)
    student = {"student": dataclasses.asdict(_student_config(config, stream))}
    asked = {**student, **dataclasses.asdict(config.optimization()), **_settings(config, stream)}
    before = found.provenance["distillation"]
    for name, value in json.loads(json.dumps(asked)).items():
        if name in before and before[name] != value:
            raise ValueError(
                f"{storage.redact(config.output)} has a student with {name} {before[name]}, expected {value}: give "
                "another --output, or the settings that it was trained with"
            )
    return found


def _train(config: DistillConfig, worker: Worker, *, settings: dict[str, Any]) -> None:
    """One worker's training. The first worker also scores the epochs, saves the state and, at the end, the bundle.

    Raises ValueError if the samples or labels are no longer those in `settings`, which the job started with.
    """
    stream = _stream(config)
    if (found := _settings(config, stream)) != settings:
        kind = next(iter(stream.about()))
        raise ValueError(
            f"the {kind} at {stream.output} changed after this training began: {found[kind]}; "
            f"expected {settings[kind]}. Run the same command again when nothing writes there"
        )
    source = _source(config, stream)
    classifier = _read_weights(config.backbone_weights) if config.backbone_weights is not None else None
    scores = config.validation is not None and not worker.rank
    held_out = _annotations(str(config.validation), config, stream) if scores else []
    student = _student_config(config, stream)
    training = StudentTraining(
        student, config.optimization(), worker, task=stream.task, settings=settings, classifier=classifier
    )
    state = storage.join(config.output, STATE)
    keep = keeping(training, state, worker, seconds=SAVE_SECONDS)
    share = config.batch_size // worker.world_size
    with work_began():
        with keep as saving:
            while len(training.epochs) < config.epochs:
                _epoch(training, source, held_out, stream, share, saving)
                if not worker.rank:
                    training.save(state)
        if not worker.rank:
            provenance: dict[str, Any] = {
                "distillation": {**training.settings, "history": training.epochs},
                "teacher": {"model_id": stream.model_id, "config_hash": stream.config_hash},
            }
            if config.images is not None or held_out:  # validation images chose the epoch, so they count too
                real = [*(_annotations(config.images, config, stream) if config.images is not None else []), *held_out]
                provenance[learnt_from.KEY] = learnt_from.record(real)
            save_student(
                StudentBundle(
                    student=student,
                    weights=training.best,
                    task=stream.task,
                    provenance=with_fit(provenance, stream.fit),
                ),
                config.output,
            )
            storage.delete(state)


def _epoch(
    training: StudentTraining,
    source: SampleStream | LabelStream | AnnotatedSet,
    held_out: list[Annotation],
    stream: SampleStream | LabelStream,
    share: int,
    saving: Saving,
) -> None:
    number, worker, seed = len(training.epochs), training.worker, training.options.seed
    total = source.num_batches(seed, number, share, worker.world_size)
    batches = source.batches(seed, number, share, worker.rank, worker.world_size)
    if worker.rank:
        training.finish_epoch(training.train_epoch(batches, lambda _: None, saving), None)
        return
    with Progress(f"epoch {number + 1} of {training.options.epochs}", total=total, unit="batches") as progress:
        loss = training.train_epoch(batches, lambda loss: progress.at(len(training.losses), loss=loss), saving)
    miou = None
    if held_out:
        miou = published_miou(evaluate(training.label, held_out, stream.task), stream.task.ignore_label)
    training.finish_epoch(loss, miou)
    scored = f", mean IoU {miou:.4f} on {len(held_out)} validation images" if miou is not None else ""
    logger.info("epoch %d of %d: loss %.4f%s", number + 1, training.options.epochs, loss, scored)


def _stream(config: DistillConfig) -> SampleStream | LabelStream:
    if config.labels is None:
        assert config.samples is not None  # of the config
        number = config.num_samples[0] if config.num_samples else None
        return SampleStream(config.samples, config_hash=config.config_hash, num_samples=number)
    return LabelStream(
        config.labels, config_hash=config.config_hash, size=config.image_size, ignore_below=config.ignore_below
    )


def _student_config(config: DistillConfig, stream: SampleStream | LabelStream) -> AnyStudent:
    if config.architecture == "unet":
        return UNetStudentConfig(num_classes=stream.task.num_classes, image_size=stream.size)
    return StudentConfig(
        backbone=config.backbone,
        num_classes=stream.task.num_classes,
        image_size=stream.size,
        resolution=config.resolution,
    )


def _source(config: DistillConfig, stream: SampleStream | LabelStream) -> SampleStream | LabelStream | AnnotatedSet:
    if config.images is None:
        return stream
    annotations = _annotations(config.images, config, stream)
    images = np.stack([annotation.image for annotation in annotations])
    labels = usable_labels(np.stack([annotation.label for annotation in annotations]), stream.task)
    return AnnotatedSet(images, labels, config.repeat)


def _annotations(uri: str, config: DistillConfig, stream: SampleStream | LabelStream) -> list[Annotation]:
    return load_annotations(uri, image_size=stream.size, task=stream.task, options=config, mode=stream.fit)


def _settings(config: DistillConfig, stream: SampleStream | LabelStream) -> dict[str, Any]:
    """What a student depends on besides its network and optimisation, as JSON values."""
    about: dict[str, Any] = {"validation": storage.redact(config.validation) if config.validation else None}
    about["backbone_weights"] = storage.redact(config.backbone_weights) if config.backbone_weights else None
    about |= {"uncovered": config.uncovered} if config.uncovered is not None else {}
    if config.images is not None:
        return {**about, "images": storage.redact(config.images), "repeat": config.repeat}
    return {**about, **stream.about()}


def _read_weights(uri: str) -> dict[str, Tensor]:
    """Reads a state dict. Raises ValueError for a file that holds none."""
    return state_dict(read_checkpoint(uri), storage.redact(uri))
