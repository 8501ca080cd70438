"""Exports to CVAT's XML "CVAT for images 1.1": one mask per image and class."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.tasks import Task


def write_cvat(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `annotations.xml`, to be uploaded to a task that has the files in `images/`. Labels get the task's
    colours."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    for name, colour in zip(task.class_names, css_colours(task.palette), strict=True):
        label = ElementTree.SubElement(labels, "label")
        for key, text in {"name": name, "color": colour, "type": "mask"}.items():
            ElementTree.SubElement(label, key).text = text
    for number, picture in enumerate(pictures):
        picture.write_image(storage.join(output, "images"))
        height, width = picture.mask.shape
        about = {"id": str(number), "name": picture.file_name, "width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", about)
        for class_id, pixels in picture.classes():
            ElementTree.SubElement(image, "mask", {"label": task.class_names[class_id], **_mask(pixels)})
    text = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    storage.write_bytes(storage.join(output, "annotations.xml"), text)


def _mask(pixels: NDArray[np.bool_]) -> dict[str, str]:
    """Attributes of a mask: its box and, row by row in it, the numbers of pixels outside, inside, outside, …"""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    box = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    flat = np.concatenate([[False], box.reshape(-1)])  # the first number counts pixels outside, and may be 0
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff([0, *changes.tolist(), box.size])
    place = {"left": columns[0], "top": rows[0], "width": box.shape[1], "height": box.shape[0]}
    constant = {"source": "auto", "occluded": "0", "z_order": "0"}
    return {**constant, "rle": ", ".join(map(str, runs)), **{name: str(value) for name, value in place.items()}}
