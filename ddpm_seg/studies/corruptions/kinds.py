"""ImageNet-C's fifteen kinds of corruption, at its five severities (Hendrycks & Dietterich, 2019, section 4).

Written anew: the libraries that have them want a second OpenCV and Numba, and their lengths are pixels of a 224 x 224
image, which would wipe out one of 64 x 64. Here a length grows and shrinks with the image; everything else has the
published strength. Frost is drawn, where ImageNet-C pastes photographs of it. `elastic_transform` moves things, so it
moves their labels too.
"""

# Shapes: an image of H x W pixels; a grid of h x w cells, whose longer side is 224.

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TypeAlias, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ddpm_seg.studies.corruptions.config import Kind

PUBLISHED_SIDE = 224

Pixels: TypeAlias = NDArray[np.float64]
"""(H, W, 3) in [0, 1]."""


def corrupt(
    image: NDArray[np.uint8], label: NDArray[np.uint8], kind: Kind, severity: int, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The corrupted `image` (H, W, 3) uint8 RGB and its `label` (H, W) uint8, which only a kind that moves things
    changes.

    Depends on the image, its `name`, the kind and the severity (1 to 5) alone.
    """
    seed = hashlib.sha256(f"{name}\n{kind}\n{severity}".encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    if kind == "elastic_transform":
        where = _elastic(image.shape[:2], severity - 1, rng)
        return _bytes(_taken(_float(image), where)), ndimage.map_coordinates(label, where, order=0, mode="nearest")
    return _bytes(_KINDS[kind](_float(image), severity - 1, rng)), label


def gaussian_noise(x: Pixels, level: int, rng: Generator) -> Pixels:
    return x + rng.normal(scale=(0.08, 0.12, 0.18, 0.26, 0.38)[level], size=x.shape)


def shot_noise(x: Pixels, level: int, rng: Generator) -> Pixels:
    photons = (60, 25, 12, 5, 3)[level]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: Pixels, level: int, rng: Generator) -> Pixels:
    hit = rng.random(x.shape) < (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    return np.where(hit, rng.integers(0, 2, x.shape), x)


def defocus_blur(x: Pixels, level: int, rng: Generator) -> Pixels:
    radius = (3, 4, 6, 8, 10)[level] * _scale(x.shape)
    reach = int(np.ceil(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _convolved(x, (radius + 0.5 - np.hypot(rows, columns)).clip(0, 1))


def glass_blur(x: Pixels, level: int, rng: Generator) -> Pixels:
    sigma, reach, times = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[level]
    scale = _scale(x.shape)
    x = _smooth(x, sigma * scale)
    for _ in range(times):
        x = _taken(x, _grid(x.shape) + rng.uniform(-reach, reach, (2, *x.shape[:2])) * scale)
    return _smooth(x, sigma * scale)


def motion_blur(x: Pixels, level: int, rng: Generator) -> Pixels:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[level]
    return _moving(x, radius, sigma, rng.uniform(-45, 45), _scale(x.shape))


def zoom_blur(x: Pixels, level: int, rng: Generator) -> Pixels:
    farthest, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[level]
    middle = (np.array(x.shape[:2]) - 1)[:, None, None] / 2
    zooms = np.arange(1, farthest, step)
    nearer = [_taken(x, middle + (_grid(x.shape) - middle) / zoom) for zoom in zooms]
    return (x + np.sum(nearer, axis=0)) / (len(zooms) + 1)


def snow(x: Pixels, level: int, rng: Generator) -> Pixels:
    mean, deviation, flake, least, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[level]
    grid = _published_grid(x.shape)
    cells = rng.normal(mean, deviation, [int(np.ceil(side / flake)) for side in grid])
    flakes = _resized(cells, grid)
    falling = _moving(np.where(flakes < least, 0, flakes.clip(0, 1)), radius, sigma, rng.uniform(-135, -45), 1)
    layer = _resized(falling, x.shape[:2])
    pale = np.maximum(x, (x @ (0.299, 0.587, 0.114))[..., None] * 1.5 + 0.5)
    return kept * x + (1 - kept) * pale + (layer + np.rot90(layer, 2))[..., None]


def frost(x: Pixels, level: int, rng: Generator) -> Pixels:
    kept, ice = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[level]
    needles = (1 - np.abs(2 * _fractal(x.shape, 1.5, rng) - 1)) ** 3
    return kept * x + ice * needles[..., None] * (0.85, 0.95, 1)


def fog(x: Pixels, level: int, rng: Generator) -> Pixels:
    amount, smoothness = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[level]
    brightest = x.max()
    return (x + amount * _fractal(x.shape, smoothness, rng)[..., None]) * brightest / (brightest + amount)


def brightness(x: Pixels, level: int, rng: Generator) -> Pixels:
    value = x.max(axis=2, keepdims=True)  # of HSV; hue and saturation stay
    brighter = (value + (0.1, 0.2, 0.3, 0.4, 0.5)[level]).clip(0, 1)
    return np.where(value > 0, x / np.maximum(value, 1e-6), 1) * brighter


def contrast(x: Pixels, level: int, rng: Generator) -> Pixels:
    mean = x.mean(axis=(0, 1))
    return mean + (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level]


def pixelate(x: Pixels, level: int, rng: Generator) -> Pixels:
    height, width = x.shape[:2]
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    small = Image.fromarray(_bytes(x)).resize(
        (max(1, int(width * share)), max(1, int(height * share))), Image.Resampling.BOX
    )
    return _float(np.asarray(small.resize((width, height), Image.Resampling.NEAREST)))


def jpeg_compression(x: Pixels, level: int, rng: Generator) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(_bytes(x)).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[level])
    return _float(np.asarray(Image.open(file)))


_KINDS: dict[Kind, Callable[[Pixels, int, Generator], Pixels]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
assert {*_KINDS, "elastic_transform"} == {*get_args(Kind)}


def _elastic(size: tuple[int, ...], level: int, rng: Generator) -> Pixels:
    """(2, H, W): the row and column that each pixel is taken from."""
    amount, smoothness, tilt = ((488, 170.8, 24.4), (488, 19.5, 48.8), (12.2, 2.44, 4.88), (17.1, 2.44, 4.88),
                                (29.3, 2.44, 4.88))[level]  # fmt: skip
    grid = _published_grid(size)
    waves = [ndimage.gaussian_filter(rng.uniform(-1, 1, grid), smoothness, mode="reflect") for _ in range(2)]
    moved = np.stack([_resized(amount * wave, size) for wave in waves])
    side, middle = PUBLISHED_SIDE / 3, (np.array(size) - 1)[:, None, None] / 2
    # Three corners of a triangle around the middle move at random: the affine map between the triangles.
    corners = np.array([[side, side], [side, -side], [-side, -side]])
    affine = np.linalg.solve(np.c_[corners, np.ones(3)], corners + rng.uniform(-tilt, tilt, (3, 2)))
    scale = _scale(size)
    around = (_grid(size) - middle) / scale
    turned = np.einsum("ij,ihw->jhw", affine[:2], around) + affine[2][:, None, None]
    return middle + (turned + moved) * scale


def _float(image: NDArray[np.uint8]) -> Pixels:
    return image / 255.0


def _bytes(x: Pixels) -> NDArray[np.uint8]:
    return np.rint(x.clip(0, 1) * 255).astype(np.uint8)


def _scale(size: tuple[int, ...]) -> float:
    """How long a pixel of a published image is here."""
    return max(size[:2]) / PUBLISHED_SIDE


def _published_grid(size: tuple[int, ...]) -> tuple[int, int]:
    """h and w: an image of this size, enlarged or reduced to the published side."""
    height, width = (max(1, round(side / _scale(size))) for side in size[:2])
    return height, width


def _grid(size: tuple[int, ...]) -> Pixels:
    """(2, H, W): row and column of each pixel."""
    return np.indices(size[:2]).astype(float)


def _taken(x: Pixels, where: Pixels) -> Pixels:
    """The pixels at the rows and columns `where` (2, H, W), interpolated; the image's edge is repeated."""
    return np.stack([ndimage.map_coordinates(x[..., i], where, order=1, mode="nearest") for i in range(3)], axis=-1)


def _smooth(x: Pixels, sigma: float) -> Pixels:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def _convolved(x: Pixels, kernel: Pixels) -> Pixels:
    """(H, W) or (H, W, 3), with a square kernel that is scaled to sum 1."""
    shaped = kernel / kernel.sum()
    return ndimage.convolve(x, shaped if x.ndim == 2 else shaped[..., None], mode="nearest")


def _moving(x: Pixels, radius: float, sigma: float, degrees: float, scale: float) -> Pixels:
    """Smeared along one direction, by half a bell curve over 2 `radius` + 1 steps of `scale` pixels."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = (steps * scale * wave(np.deg2rad(degrees)) for wave in (np.sin, np.cos))
    reach = int(np.ceil(2 * radius * scale)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
            np.add.at(kernel, (reach + top + down, reach + left + right), weights * share)
    return _convolved(x, kernel)


def _resized(layer: Pixels, size: tuple[int, ...]) -> Pixels:
    """(H, W) floats, by Pillow's bilinear filter, which averages where it reduces."""
    small = Image.fromarray(layer.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float64)


def _fractal(size: tuple[int, ...], smoothness: float, rng: Generator) -> Pixels:
    """(H, W) in [0, 1]: clouds, from noise at ever finer grids that weighs less by `smoothness` each time."""
    grid = _published_grid(size)
    cells, weight = 2, 1.0
    clouds: Pixels = np.zeros(grid)
    while cells <= 2 * PUBLISHED_SIDE:
        clouds += weight * _resized(rng.uniform(-1, 1, (cells + 1, cells + 1)), grid)
        cells, weight = cells * 2, weight / smoothness
    found = _resized(clouds, size[:2])
    return (found - found.min()) / max(np.ptp(found), 1e-6)
