"""How well `domain_distance` tells images that a model was not made for: AUROC against its own kind, per kind of image.

    python -m tests.measurements.domain --model avatars-10 --own avatars/test --other photos/ [--limit 200]

`--own` is a folder of images of the model's kind that it was not trained on. Corrupted and turned copies of these are
compared with them too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ddpm_seg.data.canvas import fit
from ddpm_seg.data.domain import OUTSIDE
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.segmenter import Segmenter

Corrupt = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]


def noise(deviation: float) -> Corrupt:
    return lambda image, rng: np.clip(image + rng.normal(0, deviation, image.shape), 0, 255).astype(np.uint8)


def blur(image: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2)))


KINDS: dict[str, Corrupt] = {
    "noise 10": noise(10),
    "noise 25": noise(25),
    "blurred": blur,
    "upside down": lambda image, _: image[::-1].copy(),
    "grey": lambda image, _: np.asarray(Image.fromarray(image).convert("L").convert("RGB")),
    "inverted": lambda image, _: 255 - image,
}


def auroc(own: Sequence[float], other: Sequence[float]) -> float:
    """Chance that one of `other` is larger than one of `own`."""
    below = np.searchsorted(np.sort(own), np.asarray(other))
    return float(below.mean() / len(own))


def distances(segmenter: Segmenter, images: Sequence[NDArray[np.uint8]]) -> list[float]:
    found = segmenter.segment(np.stack(images))
    return [float(one.domain_distance) for one in found if one.domain_distance is not None]


def seconds(segmenter: Segmenter, images: NDArray[np.uint8]) -> float:
    start = time.process_time()
    segmenter.segment(images)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-10")
    parser.add_argument("--own", required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--limit", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = Segmenter(load_bundle(options.model))
    size = segmenter.image_size
    own, other = (
        [fit(np.asarray(Image.open(path).convert("RGB")), size)[0] for path in sorted(images(folder))[: options.limit]]
        for folder in (options.own, options.other)
    )
    known, rng = distances(segmenter, own), np.random.default_rng(0)
    print(f"{'images':<14}{'median':>8}{'outside':>9}{'AUROC':>8}")
    print(f"{'own kind':<14}{np.median(known):>8.2f}{np.mean(np.array(known) > OUTSIDE):>9.1%}")
    sets = {"other": other, **{name: [change(image, rng) for image in own] for name, change in KINDS.items()}}
    for name, changed in sets.items():
        found = distances(segmenter, changed)
        outside = np.mean(np.array(found) > OUTSIDE)
        print(f"{name:<14}{np.median(found):>8.2f}{outside:>9.1%}{auroc(known, found):>8.3f}")
    domain, batch = segmenter.domain, np.stack(own[:32])
    pairs = []
    for _ in range(5):
        segmenter.domain = None
        without = seconds(segmenter, batch)
        segmenter.domain = domain
        pairs.append(seconds(segmenter, batch) / without)
    print(f"processor time with and without: {np.median(pairs):.4f}")


def images(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]


if __name__ == "__main__":
    main()
