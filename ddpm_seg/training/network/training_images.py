"""The images that a network is trained on: read from a file as they are needed; mirrored, cropped and recoloured."""

# Shapes: B images of S x S pixels, S the network's size; M x M, a little more, where images are cropped.

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.image_set import ImageFile, read_images
from ddpm_seg.fits import FitMode
from ddpm_seg.training.augmentation import slightly_recoloured
from ddpm_seg.training.optimization import Optimization

DECAY_SHARE = 0.25
"""Last share of the iterations, over which the learning rate falls linearly to zero (Hu et al., 2024). Before it, a
training does not depend on its length, so that it can still be made longer or shorter."""


class Images(Sized, Protocol):
    """Images of one size: an array (N, S, S, 3) uint8, or an `ImageFile`."""

    def __getitem__(self, numbers: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """The images with these numbers (B,) int64, as a new array (B, S, S, 3) uint8."""


@dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """Images to train on, and those that are held out of the training."""

    whole: Images
    """At S x S."""
    larger: Images | None = None
    """The same images at M x M, to be cropped; None trains on whole images only."""
    held_out: int = 0
    """How many images are not trained on: a random choice that depends on the seed alone."""
    recolour: bool = False
    """Whether each image's colours are changed slightly, anew in each batch."""

    def __len__(self) -> int:
        return len(self.whole) - self.held_out

    def split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of the images to train on, and of those held out."""
        order = np.random.default_rng(seed).permutation(len(self.whole))
        return order[self.held_out :], order[: self.held_out]


def draw_images(
    images: TrainingImages | NDArray[np.uint8], options: Optimization, iteration: int, varied_until: float = math.inf
) -> tuple[NDArray[np.uint8], np.random.Generator]:
    """One iteration's images (B, S, S, 3) uint8, half of them mirrored, and the generator for its other random
    numbers.

    Images are cropped and recoloured before the iteration `varied_until`: a network that draws images ends on them as
    they are, so that it does not draw crops or other colours.
    """
    images = images if isinstance(images, TrainingImages) else TrainingImages(whole=images)
    rng = np.random.default_rng((options.seed, iteration))
    numbers = rng.integers(len(images), size=options.batch_size)
    if images.held_out:
        numbers = images.split(options.seed)[0][numbers]
    if images.larger is not None and iteration < varied_until:
        batch = cropped(images.larger[numbers], images.whole[numbers[:1]].shape[1], rng)
    else:
        batch = images.whole[numbers]
    flipped = rng.random(options.batch_size) < 0.5
    batch[flipped] = batch[flipped, :, ::-1]
    if images.recolour and iteration < varied_until:
        batch = slightly_recoloured(batch, torch.Generator().manual_seed(int(rng.integers(2**63))))
    return batch, rng


def read_training_images(
    uri: str, size: int, fit: FitMode, *, crop: float, held_out: int, recolour: bool = False
) -> TrainingImages:
    """The readable images under `uri`, in temporary files (`ImageFile`).

    With `crop`, they are kept at S x S and larger, so that no crop is enlarged. Raises ValueError if there are none,
    or none besides those held out.
    """
    sizes = (size, larger_side(size, crop)) if crop else (size,)
    files = [ImageFile(side) for side in sizes]
    for image in read_images(uri, sizes, fit):
        for file, canvas in zip(files, image, strict=True):
            file.append(canvas)
    if held_out >= len(files[0]):
        raise ValueError(f"--held-out {held_out} leaves none of the {len(files[0])} images to train on")
    return TrainingImages(whole=files[0], larger=files[1] if crop else None, held_out=held_out, recolour=recolour)


def larger_side(size: int, crop: float) -> int:
    """The side M of an image from which a square of `size` is cut that loses up to a share `crop` of each side."""
    return math.ceil(size / (1 - crop))


def cropped(images: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square of at least `size` pixels of each image (B, M, M, 3) uint8, resized to (B, size, size, 3)."""
    found = np.empty((len(images), size, size, 3), np.uint8)
    for number, image in enumerate(images):
        side = int(rng.integers(size, image.shape[0] + 1))
        top, left = (int(place) for place in rng.integers(0, image.shape[0] - side + 1, size=2))
        square = Image.fromarray(image[top : top + side, left : left + side])
        found[number] = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return found
