from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

from ddpm_seg.data.exports.label_studio import write_label_studio
from ddpm_seg.tasks import UNLABELLED
from tests.data.exports.drawn import TASK, pictures


def test_label_studios_own_library_reads_the_same_masks(tmp_path: Path) -> None:
    write_label_studio(pictures(), TASK, str(tmp_path))
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["uri"] for task in tasks] == [one.uri for one in reversed(pictures())]
    for one, task in zip(reversed(pictures()), tasks, strict=True):
        (prediction,) = task["predictions"]
        assert prediction["score"] == math.exp(-one.uncertainty)
        mask = np.full(one.mask.shape, UNLABELLED, np.uint8)
        for region in prediction["result"]:
            assert (region["original_height"], region["original_width"]) == one.mask.shape
            pixels = decode_rle(region["value"]["rle"]).reshape(*one.mask.shape, 4)
            assert np.array_equal(np.unique(pixels), [0, 255]) or one.mask.shape == (5, 4)
            (name,) = region["value"]["brushlabels"]
            mask[pixels[..., 3] > 0] = TASK.class_names.index(name)
        assert np.array_equal(mask, one.mask)


def test_label_studio_takes_the_predictions_for_the_interface(tmp_path: Path) -> None:
    write_label_studio(pictures(), TASK, str(tmp_path))
    interface = LabelInterface((tmp_path / "interface.xml").read_text())
    interface.validate()
    (control,) = interface.controls
    assert list(control.labels) == list(TASK.class_names)
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        assert interface.validate_task({"data": task["data"]})
        assert interface.validate_prediction(task["predictions"][0])


def test_a_local_image_is_one_of_the_local_storage(tmp_path: Path) -> None:
    one = dataclasses.replace(pictures()[0], uri="/photos/ä b.png")
    write_label_studio([one], TASK, str(tmp_path))
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=photos/%C3%A4%20b.png"
