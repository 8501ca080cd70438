"""Exports to folders of images and masks, as `jobs.train --images` and most training code read them."""

from __future__ import annotations

import io
from collections.abc import Iterable

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.overlay import indexed
from ddpm_seg.json_text import json_file
from ddpm_seg.tasks import Task


def write_png(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `images/NAME.jpg`, and `masks/NAME.png` whose pixels are class ids (255: none) shown in the task's
    colours.

    `task.json` has the class names, for `--task` of other jobs.
    """
    for picture in pictures:
        picture.write_image(storage.join(output, "images"))
        storage.write_bytes(storage.join(output, "masks", f"{picture.name}.png"), _png(picture, task))
    described: dict[str, object] = {"name": task.name, "class_names": task.class_names, "palette": task.palette}
    if task.ignore_label is not None:
        described["ignore_label"] = task.ignore_label
    storage.write_bytes(storage.join(output, "task.json"), json_file(described))


def write_images(pictures: Iterable[Picture], output: str) -> None:
    """Writes only `images/NAME.png`, for someone to draw the masks."""
    for picture in pictures:
        picture.write_image(storage.join(output, "images"))


def _png(picture: Picture, task: Task) -> bytes:
    buffer = io.BytesIO()
    indexed(picture.mask, task.palette).save(buffer, "PNG")
    return buffer.getvalue()
