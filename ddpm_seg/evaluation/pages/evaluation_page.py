"""The evaluation page: scores, classes, calibration, and the images with the worst masks."""

# Shapes: h x w pixels of an image at the network's size.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ddpm_seg.data.overlay import css_colours
from ddpm_seg.evaluation.pages.page import template
from ddpm_seg.evaluation.pages.thumbnails import is_sharp, thumbnails
from ddpm_seg.evaluation.scores.learnt_from import KEY, describe
from ddpm_seg.evaluation.scores.score_labels import Scored
from ddpm_seg.tasks import UNLABELLED, Task

TILES = 24


def evaluation_page(found: Mapping[str, Any], images: Sequence[Scored], task: Task) -> str:
    """HTML with the metrics `found` and the worst of `images`."""
    worst = sorted(images, key=lambda one: (-_error(one), one.uri))[:TILES]
    colours = css_colours(task.palette)
    curve = found["calibration"]["risk_coverage"]
    return template("evaluation.html").render(
        found=found,
        own=found["own_size"],
        learnt_from=describe(found),
        learnt=bool(found[KEY]["images"]),
        classes=[
            {**entry, "name": entry["class_name"], "colour": colours[entry["class_id"]]} for entry in found["classes"]
        ],
        confusions=_confusions(found["confusion"], task),
        curve=curve,
        highest=max([point["error"] for point in curve], default=0) or 1,
        tiles=[_tile(one, task) for one in worst],
    )


def _error(one: Scored) -> float:
    return one.wrong / one.pixels if one.pixels else 0.0


def _tile(one: Scored, task: Task) -> dict[str, Any]:
    wrong = (one.predicted != one.target) & (one.target < task.num_classes)
    if task.ignore_label is not None:
        wrong &= one.target != task.ignore_label
    image, target = thumbnails(one.image, one.target, task.palette)
    _, predicted = thumbnails(one.image, one.predicted, task.palette)
    # Wrong pixels get one colour, all others none.
    _, errors = thumbnails(one.image, np.where(wrong, 0, UNLABELLED).astype(np.uint8), ((230, 30, 40),))
    return {
        "name": PurePosixPath(one.uri).name or one.uri,
        "uri": one.uri,
        "sharp": is_sharp(one.target.shape),
        "error": _error(one),
        "uncertainty": one.uncertainty,
        "pictures": [("image", image), ("annotated", target), ("predicted", predicted), ("wrong", errors)],
    }


def _confusions(confusion: Sequence[Sequence[int]], task: Task) -> list[dict[str, Any]]:
    """The ten commonest confusions of a class that is not ignored, with another one or none, each with its share of the
    annotated class's pixels."""
    found: list[dict[str, Any]] = []
    for target, name in enumerate(task.class_names):
        for predicted, other in enumerate([*task.class_names, "no class"]):
            pixels = confusion[target][predicted]
            if target != predicted and target != task.ignore_label and pixels:
                found.append({"of": name, "as": other, "pixels": pixels, "share": pixels / sum(confusion[target])})
    return sorted(found, key=lambda one: -one["pixels"])[:10]
