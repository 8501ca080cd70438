"""One cell of a study of corruptions: a model of every split, scored on the test images under one corruption."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.cluster.actor_threads import ActorThreads
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.evaluation.scores.miou import class_ious, confusion_matrix, published_miou
from ddpm_seg.json_text import json_file
from ddpm_seg.studies.corruptions.config import Kind
from ddpm_seg.studies.corruptions.kinds import corrupt
from ddpm_seg.studies.corruptions.labellers import Labellers
from ddpm_seg.tasks import Task

BATCH = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """What is done to the images."""

    kind: str
    """A `Kind`; or "clean" or the name of another set, whose images stay as they are."""
    severity: int
    """1 to 5; 0 for images that stay as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitScore:
    """The scores of the model of one split."""

    split: str
    miou: float
    """Mean IoU by the published formula, in [0, 1]."""
    ious: dict[str, float]
    domain_distance: float | None
    """Mean over the images; None if the model does not know its training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A model's scores under one corruption, as its file has them."""

    model: str
    kind: str
    severity: int
    settings: dict[str, Any]
    """Everything that the scores depend on, with JSON's types."""
    splits: list[SplitScore]

    @property
    def miou(self) -> float:
        """Mean over the splits."""
        return fmean(one.miou for one in self.splits)


@dataclass(frozen=True, slots=True)
class Tests:
    """Images to score on, each of them once, and which of them each split is scored on."""

    images: list[Annotation]
    own: list[set[int]]
    """For each split, places in `images`."""

    @classmethod
    def of(cls, tests: Sequence[Sequence[Annotation]]) -> Tests:
        """From the images of each split."""
        every = list({id(one): one for test in tests for one in test}.values())
        places = {id(one): index for index, one in enumerate(every)}
        return cls(every, [{places[id(one)] for one in test} for test in tests])


class Scorer:
    """Scores the models of all splits; a Ray actor too, which loads them itself, as Ray may restart it elsewhere."""

    def __init__(
        self,
        load: Callable[[], Labellers],
        tests: Mapping[str, Tests],
        task: Task,
        threads: int | None = None,
    ) -> None:
        """`tests`: by the name of another set of images, "" for --test."""
        self.threads = None if threads is None else ActorThreads(threads)
        self.label, self.tests, self.task = load(), tests, task

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """For a row with `kind` and `severity`: `scores`, a JSON list with one entry per split."""
        if self.threads is not None:
            self.threads.take()
        return {**row, "scores": json.dumps(self.scores(Corruption(kind=row["kind"], severity=int(row["severity"]))))}

    def scores(self, corruption: Corruption) -> list[dict[str, Any]]:
        """Per split: `miou`, `ious` and `domain_distance`. Each image passes through a network once."""
        test = self.tests.get(corruption.kind, self.tests[""])
        images, own = test.images, test.own
        totals = [np.zeros((self.task.num_classes + 1,) * 2, np.int64) for _ in own]
        distances: list[list[float]] = [[] for _ in own]
        for start in range(0, len(images), BATCH):
            shown = [corrupted(one, corruption) for one in images[start : start + BATCH]]
            answers = self.label(np.stack([one.image for one in shown]))
            for index, (one, found) in enumerate(zip(shown, answers, strict=True), start=start):
                crop = one.placement.crop
                for split, answer in enumerate(found):
                    if index not in own[split]:
                        continue
                    totals[split] += confusion_matrix(crop(answer.label), crop(one.label), self.task.num_classes)
                    if answer.domain_distance is not None:
                        distances[split].append(answer.domain_distance)
        return [
            {
                "miou": published_miou(total, self.task.ignore_label),
                "ious": dict(zip(self.task.class_names, class_ious(total).tolist(), strict=True)),
                "domain_distance": fmean(known) if known else None,
            }
            for total, known in zip(totals, distances, strict=True)
        ]


def corrupted(annotation: Annotation, corruption: Corruption) -> Annotation:
    """`annotation` with its picture corrupted, but not the padding around it."""
    if corruption.severity == 0:
        return annotation
    kind: Kind = corruption.kind  # type: ignore[assignment]  # only kinds have a severity
    image, label, crop = annotation.image.copy(), annotation.label.copy(), annotation.placement.crop
    name = annotation.uri.rpartition("/")[2]
    crop(image)[...], crop(label)[...] = corrupt(crop(image), crop(label), kind, corruption.severity, name)
    return dataclasses.replace(annotation, image=image, label=label)


def write_cell(uri: str, cell: Cell) -> None:
    """Writes `cell` as JSON, atomically."""
    storage.write_bytes(uri, json_file(asdict(cell)))


def stored_cell(uri: str, settings: dict[str, Any]) -> Cell | None:
    """The cell stored at `uri`; None if there is none or it has other `settings`. Raises ValueError for a file that is
    no cell."""
    if not storage.exists(uri):
        return None
    try:
        content = json.loads(storage.read_bytes(uri))
        cell = Cell(**{**content, "splits": [SplitScore(**one) for one in content["splits"]]})
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{uri} is not a result of ddpm-seg corruptions ({error}); delete it") from None
    return cell if cell.settings == settings else None
