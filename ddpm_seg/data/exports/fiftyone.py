"""Exports to FiftyOne's ImageSegmentationDirectory: `data/` and `labels/` with files of the same names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.json_text import json_file
from ddpm_seg.tasks import UNLABELLED, Task


def write_fiftyone(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `data/NAME.jpg`, and `labels/NAME.png` with class ids + 1; 0 is no class, as FiftyOne does not show it.

    `mask_targets.json` has the class names for `dataset.default_mask_targets`; `samples.json` has each image's other
    fields, for `dataset.set_values`.
    """
    samples = {}
    for picture in pictures:
        picture.write_image(storage.join(output, "data"))
        shifted = np.where(picture.mask == UNLABELLED, 0, picture.mask + 1).astype(np.uint8)
        storage.write_bytes(storage.join(output, "labels", f"{picture.name}.png"), encode_png(shifted))
        samples[picture.name] = {"uri": picture.uri, "uncertainty": picture.uncertainty}
    targets = {str(class_id + 1): name for class_id, name in enumerate(task.class_names)}
    storage.write_bytes(storage.join(output, "mask_targets.json"), json_file(targets))
    storage.write_bytes(storage.join(output, "samples.json"), json_file(samples))
