"""The page of an exploration: each cluster with images that show it, and how to make classes of clusters."""

# Shapes: h x w pixels of an image at the network's size, K clusters.

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.evaluation.pages.layers import SHARP_BELOW, image_layer, mask_layer
from ddpm_seg.evaluation.pages.page import template
from ddpm_seg.tasks import Task

EXAMPLES, TILES = 6, 60
FADED = 0.15
"""How much of the image is left where another cluster is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explored:
    """An image and its clusters at the network's size, without padding."""

    uri: str
    image: NDArray[np.uint8]
    """(h, w, 3) uint8."""
    mask: NDArray[np.uint8]
    """(h, w) uint8 clusters."""
    width: int
    """The image's own width in pixels."""
    height: int

    @property
    def name(self) -> str:
        return PurePosixPath(self.uri).name or self.uri

    @property
    def sharp(self) -> bool:
        """Whether the picture is so small that it should be shown with sharp pixels."""
        return max(self.mask.shape) <= SHARP_BELOW


def explore_page(
    explored: Sequence[Explored],
    task: Task,
    *,
    model: str,
    output: str,
    steps: Sequence[int],
    blocks: Sequence[int],
) -> str:
    """HTML with the clusters, and with the first of the images in their order."""
    words = ("ddpm-seg", "train", "--model", storage.redact(model), "--images", storage.redact(output))
    return template("explore.html").render(
        model=storage.redact(model),
        output=storage.redact(output),
        steps=list(steps),
        blocks=list(blocks),
        images=len(explored),
        clusters=_clusters(explored, task),
        tiles=[_tile(one, task) for one in explored[:TILES]],
        example=_task_file(task.num_classes),
        command=shlex.join((*words, "--task", "task.yaml", "--output", "bundles/first")),
    )


def _task_file(clusters: int) -> str:
    """An example of a task file that makes two classes of the clusters."""
    numbers = [f'"{number}"' for number in range(clusters)]
    first, second = numbers[: (clusters + 1) // 2], numbers[(clusters + 1) // 2 :]
    lines = ("class_names: [background, object]", "merge:")
    return "\n".join((*lines, f"  background: [{', '.join(first)}]", f"  object: [{', '.join(second)}]"))


def _clusters(explored: Sequence[Explored], task: Task) -> list[dict[str, Any]]:
    shares_NK = np.stack(
        [np.bincount(one.mask.ravel(), minlength=task.num_classes) / one.mask.size for one in explored]
    )
    return [
        {
            "name": name,
            "colour": colour,
            "share": shares_NK[:, index].mean(),
            "images": int((shares_NK[:, index] > 0).sum()),
            "examples": [
                {"name": explored[n].name, "sharp": explored[n].sharp, "src": _alone(explored[n], index)}
                for n in np.argsort(-shares_NK[:, index], kind="stable")[:EXAMPLES].tolist()
                if shares_NK[n, index]
            ],
        }
        for index, (name, colour) in enumerate(zip(task.class_names, css_colours(task.palette), strict=True))
    ]


def _alone(one: Explored, cluster: int) -> str:
    """The image, faded to white where it is in other clusters, as a data: URI."""
    faded = np.rint(255 - (255 - one.image.astype(np.float32)) * FADED).astype(np.uint8)
    return image_layer(np.where((one.mask == cluster)[..., None], one.image, faded))


def _tile(one: Explored, task: Task) -> dict[str, Any]:
    counts = np.bincount(one.mask.ravel(), minlength=task.num_classes)
    return {
        "name": one.name,
        "uri": one.uri,
        "sharp": one.sharp,
        "image": image_layer(one.image),
        "mask": mask_layer(one.mask, task.palette),
        "clusters": ", ".join(str(index) for index in np.flatnonzero(counts)),
        "size": f"{one.width}\u00a0×\u00a0{one.height}",
    }
