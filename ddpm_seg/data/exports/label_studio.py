"""Exports to Label Studio: tasks with brush predictions, and the labelling interface for them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from ddpm_seg import storage
from ddpm_seg.data.annotations.forms.brush_rle import encode_brush
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.inputs.sources import is_in_container
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.json_text import to_json
from ddpm_seg.tasks import Task

CONTROL, OBJECT = "classes", "image"
"""Names in the interface of the brush and of the image that it paints on."""


def write_label_studio(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `tasks.json`, the most uncertain image first, and `interface.xml`.

    Image files are not copied: Label Studio reads s3://, gs:// and http(s):// URIs itself, and local files below its
    LOCAL_FILES_DOCUMENT_ROOT, which must be "/". Images in containers are copied to `images/`. A prediction's score is
    exp(-uncertainty): 1 where all members agree.
    """
    tasks = [_task(picture, task, output) for picture in pictures]
    tasks.sort(key=lambda one: -one["data"]["uncertainty"])
    storage.write_bytes(storage.join(output, "tasks.json"), to_json(tasks))
    storage.write_bytes(storage.join(output, "interface.xml"), _interface(task))


def _task(picture: Picture, task: Task, output: str) -> dict[str, Any]:
    height, width = picture.mask.shape
    result = [
        {
            "id": f"{picture.name}-{class_id}",
            "type": "brushlabels",
            "from_name": CONTROL,
            "to_name": OBJECT,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": encode_brush(pixels), "brushlabels": [task.class_names[class_id]]},
        }
        for class_id, pixels in picture.classes()
    ]
    place = picture.uri
    if is_in_container(picture.uri):
        picture.write_image(storage.join(output, "images"))
        place = storage.join(output, "images", picture.file_name)
    url = f"/data/local-files/?d={quote(place.lstrip('/'))}" if storage.is_local(place) else place
    prediction = {"model_version": picture.model_id, "score": math.exp(-picture.uncertainty), "result": result}
    data = {"image": url, "uri": picture.uri, "uncertainty": picture.uncertainty}
    return {"data": data, "predictions": [prediction]}


def _interface(task: Task) -> bytes:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": OBJECT, "value": "$image", "zoom": "true"})
    brush = ElementTree.SubElement(view, "BrushLabels", {"name": CONTROL, "toName": OBJECT})
    for name, colour in zip(task.class_names, css_colours(task.palette), strict=True):
        ElementTree.SubElement(brush, "Label", {"value": name, "background": colour})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8")
