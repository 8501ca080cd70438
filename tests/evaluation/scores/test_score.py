from __future__ import annotations

import numpy as np

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import fit
from ddpm_seg.evaluation.scores.score import evaluate
from tests.tiny_bundle import TASK


def annotated(count: int, shape: tuple[int, int]) -> list[Annotation]:
    rng = np.random.default_rng(0)
    annotations = []
    for _ in range(count):
        image, placement = fit(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), 16)
        label = np.full((16, 16), 255, dtype=np.uint8)
        placement.crop(label)[:] = rng.integers(0, 5, (placement.height, placement.width))
        annotations.append(Annotation(uri="", image=image, label=label, placement=placement))
    return annotations


def test_every_pixel_but_the_padding_is_scored() -> None:
    annotations = annotated(23, (12, 16))  # more than one batch
    truth = {annotation.image.tobytes(): annotation.label for annotation in annotations}
    confusion = evaluate(lambda images: np.stack([truth[image.tobytes()] for image in images]), annotations, TASK)
    assert confusion.sum() == 23 * 12 * 16
    assert np.diag(confusion).sum() == confusion.sum()
    everything_red = evaluate(lambda images: np.ones(images.shape[:3], np.uint8), annotations, TASK)
    assert everything_red[:, 1].sum() == everything_red.sum()
