"""CVAT is a server and not tested itself: exports are read here as its documentation describes the format."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from ddpm_seg.data.exports.cvat import write_cvat
from ddpm_seg.tasks import UNLABELLED
from tests.data.exports.drawn import TASK, pictures, pixels_of


def draw(image: ElementTree.Element) -> np.ndarray:
    """`rle` counts pixels of the box in rows, first of the background, then of the mask, and so on."""
    mask = np.full((int(image.attrib["height"]), int(image.attrib["width"])), UNLABELLED, np.uint8)
    for one in image.findall("mask"):
        left, top, width, height = (int(one.attrib[name]) for name in ("left", "top", "width", "height"))
        flat: list[bool] = []
        for number, count in enumerate(one.attrib["rle"].split(",")):
            flat += [number % 2 == 1] * int(count)
        inside = np.array(flat).reshape(height, width)
        assert inside.any(axis=0)[[0, -1]].all()
        assert inside.any(axis=1)[[0, -1]].all()
        mask[top : top + height, left : left + width][inside] = TASK.class_names.index(one.attrib["label"])
    return mask


def test_masks_are_those_of_the_table(tmp_path: Path) -> None:
    write_cvat(pictures(), TASK, str(tmp_path))
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    labels = [(label.findtext("name"), label.findtext("color")) for label in root.iterfind("meta/task/labels/label")]
    assert labels == [
        (name, "#{:02x}{:02x}{:02x}".format(*colour))
        for name, colour in zip(TASK.class_names, TASK.palette, strict=True)
    ]
    images = root.findall("image")
    assert [image.attrib["id"] for image in images] == ["0", "1", "2", "3"]
    for one, image in zip(pictures(), images, strict=True):
        assert np.array_equal(draw(image), one.mask)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / image.attrib["name"])), pixels_of(one))
