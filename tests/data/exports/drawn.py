"""Pictures with masks that are hard to encode: single pixels, full and empty rows, odd sizes, no class."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.tasks import UNLABELLED, Task

TASK = Task(
    name="weather",
    class_names=("sky", 'cloud "9"', "rain & <snow>"),
    palette=((1, 2, 3), (255, 0, 0), (0, 128, 255)),
)


def pictures() -> list[Picture]:
    generator = np.random.default_rng(0)
    masks = [
        generator.integers(0, 3, (7, 13), dtype=np.uint8),
        np.zeros((5, 4), np.uint8),
        np.kron(generator.integers(0, 3, (3, 3), dtype=np.uint8), np.ones((90, 110), np.uint8)),  # runs over 65536
        np.where(generator.random((6, 6)) < 0.5, np.uint8(UNLABELLED), np.uint8(2)).astype(np.uint8),
    ]
    return [picture(number, mask) for number, mask in enumerate(masks)]


def picture(number: int, mask: np.ndarray) -> Picture:
    pixels = np.random.default_rng(number).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Picture(
        name=f"p{number}",
        uri=f"s3://bucket/in/p {number}.png",
        mask=mask,
        uncertainty=0.1 * (number + 1),
        mean_confidence=0.9,
        model_id="m-1",
        image=buffer.getvalue(),
        suffix=".png",
    )


def pixels_of(one: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(one.image)))
