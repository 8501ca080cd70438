from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.data.exports.png import write_png
from tests.data.exports.drawn import TASK, pictures, pixels_of


def test_masks_are_class_ids_in_the_tasks_colours(tmp_path: Path) -> None:
    write_png(pictures(), TASK, str(tmp_path))
    for one in pictures():
        mask = Image.open(tmp_path / "masks" / f"{one.name}.png")
        assert np.array_equal(np.asarray(mask), one.mask)
        shown = np.asarray(mask.convert("RGB"))
        for class_id, pixels in one.classes():
            assert np.all(shown[pixels] == TASK.palette[class_id])
        assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / one.file_name)), pixels_of(one))


def test_it_comes_back_as_annotations_of_the_same_task(tmp_path: Path) -> None:
    write_png(pictures(), TASK, str(tmp_path))
    task = find_task(str(tmp_path / "task.json"))
    assert task == TASK
    pairs = find_pairs(str(tmp_path), task)
    assert [pair.read_mask(*one.mask.shape).tolist() for pair, one in zip(pairs, pictures(), strict=True)] == [
        one.mask.tolist() for one in pictures()
    ]
