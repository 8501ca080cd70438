from __future__ import annotations

import numpy as np

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.annotations.report import describe
from ddpm_seg.data.canvas import Placement
from ddpm_seg.tasks import Task

TASK = Task(name="t", class_names=("sky", "sea", "boat", "bird"), palette=((0, 0, 0),) * 4, ignore_label=0)


def annotation(label: np.ndarray) -> Annotation:
    size = len(label)
    placement = Placement(left=0, top=0, width=size, height=size // 2, image_width=size, image_height=size // 2)
    return Annotation(uri="x", image=np.zeros((size, size, 3), np.uint8), label=label, placement=placement)


def test_counts_pixels_images_and_what_is_too_small() -> None:
    label = np.full((64, 64), 255, np.uint8)
    label[:32] = 0
    label[:10] = 1
    other = label.copy()
    label[0, 0] = 2  # one pixel of 64 x 64 is under the published share
    other[0, :20] = 2
    other[20] = 255
    rows = {
        line.split("  ")[0]: line.split()
        for line in describe([annotation(label), annotation(other)], TASK).splitlines()
    }
    assert rows["sky"][1:] == ["2,752", "67.19%", "2", "0", "(ignored)"]
    assert rows["sea"][1:] == ["1,259", "30.74%", "2", "0"]
    assert rows["boat"][1:] == ["21", "0.51%", "2", "1"]
    assert rows["(no class: 255)"][3:] == ["64", "1.56%"]
    assert rows["in no image: bird"]
