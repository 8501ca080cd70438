"""Features of single pixels, gathered from activations that stay at their native resolution.

Shapes: N images, S x S pixels, C channels of one map at h x w, P pixels, D features (the sum of all C).
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.model.domain import describe_maps

VARIANCE_EPS = 1e-5
"""Added to variances, so that a constant channel is not divided by zero."""


class PixelFeatures:
    """All images' activation maps, as rows of channels; `gather` upsamples only the pixels asked for.

    Upsampled, one image of the published size takes 2.2 GB; its native maps take about 50 MB in float16. On the CPU
    they are memory-mapped, so that the system can page out what is not being read.
    """

    def __init__(
        self,
        *,
        num_images: int,
        image_size: int,
        mode: Literal["bilinear", "nearest"],
        dtype: torch.dtype = torch.float16,
        device: str | torch.device = "cpu",
    ) -> None:
        self.num_images, self.image_size, self.mode = num_images, image_size, mode
        self.dtype, self.device = dtype, torch.device(device)
        self.maps: list[Tensor] = []  # each (N, h, w, C)
        # By map side: for each output row or column, the source positions and their weights, (S, corners) each.
        self.corners: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def num_features(self) -> int:
        """D, known once the first image is stored."""
        return sum(stored.shape[-1] for stored in self.maps)

    def store(self, first: int, maps_NCHW: Sequence[Tensor]) -> None:
        """Stores the maps of images `first`, `first + 1`, ...: one (n, C, h, w) tensor per step and block."""
        if not self.maps:
            for new in maps_NCHW:
                _, channels, height, width = new.shape
                shape = (self.num_images, height, width, channels)
                with torch.inference_mode(False):  # so that `standardize` may write into them
                    self.maps.append(_zeros(shape, self.dtype, self.device))
                for side in (height, width):
                    self.corners[side] = interpolation_corners(side, self.image_size, self.mode, self.device)
        for index, new in enumerate(maps_NCHW):
            if self.dtype == torch.float16 and new.abs().max() > torch.finfo(torch.float16).max:
                with torch.inference_mode(False):
                    # The rare map beyond float16's range.
                    half, full = self.maps[index], _zeros(self.maps[index].shape, torch.float32, self.device)
                    self.maps[index] = full.copy_(half)
            self.maps[index][first : first + len(new)] = new.permute(0, 2, 3, 1)

    def standardize(self) -> tuple[Tensor, Tensor]:
        """Scales every feature to mean 0 and deviation 1 over all positions of all images, in place.

        Returns the means and deviations before, float32 (D,) each. Interpolation weights add up to 1, so gathered
        features are shifted and scaled in the same way as the maps.
        """
        means, deviations = [], []
        for stored in self.maps:
            # One image at a time: a float32 copy of all maps would take twice the memory of the maps themselves.
            mean_C = torch.stack([image.float().mean(dim=(0, 1)) for image in stored]).mean(dim=0)
            squares = [(image.float() - mean_C).square().mean(dim=(0, 1)) for image in stored]
            deviation_C = (torch.stack(squares).mean(dim=0) + VARIANCE_EPS).sqrt()
            for image in stored:
                image.copy_((image.float() - mean_C) / deviation_C)
            means.append(mean_C)
            deviations.append(deviation_C)
        return torch.cat(means), torch.cat(deviations)

    def described(self, count: int) -> Tensor:
        """(count, D) float32: what the first `count` images look like, by `model.domain.describe_maps`."""
        images = ([stored[index][None].permute(0, 3, 1, 2) for stored in self.maps] for index in range(count))
        return torch.cat([describe_maps(maps).cpu() for maps in images])

    def select(self, indices: Sequence[int]) -> PixelFeatures:
        """A view of some of the maps, in the order they were stored, without a copy."""
        chosen = PixelFeatures(
            num_images=self.num_images, image_size=self.image_size, mode=self.mode, dtype=self.dtype, device=self.device
        )
        chosen.maps, chosen.corners = [self.maps[index] for index in indices], self.corners
        return chosen

    def gather(self, pixels_P: Tensor) -> Tensor:
        """Features (P, D) float32 of the pixels at flat positions `pixels_P` int64 in (N, S, S).

        Equal to `F.interpolate(map, S, mode=mode)` at those pixels, maps concatenated in the order they were stored.
        """
        size = self.image_size
        pixels_P = pixels_P.to(self.device)
        image_P, y_P, x_P = pixels_P // (size * size), pixels_P // size % size, pixels_P % size
        features_PD = torch.empty(len(pixels_P), self.num_features, device=self.device)
        places: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        start = 0
        for stored in self.maps:
            _, height, width, channels = stored.shape
            if (height, width) not in places:
                places[height, width] = self._corners_of(image_P, y_P, x_P, height, width)
            rows, weights = places[height, width]
            features_PD[:, start : start + channels] = F.embedding_bag(
                rows, stored.view(-1, channels), mode="sum", per_sample_weights=weights.to(stored.dtype)
            )
            start += channels
        return features_PD

    def _corners_of(self, image_P: Tensor, y_P: Tensor, x_P: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """For each pixel, rows of the (N * h * w, C) table and their weights: (P, corners) each."""
        rows_y, weights_y = (table[y_P] for table in self.corners[height])
        rows_x, weights_x = (table[x_P] for table in self.corners[width])
        rows = ((image_P[:, None] * height + rows_y) * width)[:, :, None] + rows_x[:, None, :]
        weights = weights_y[:, :, None] * weights_x[:, None, :]
        return rows.flatten(1), weights.flatten(1)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of zeros. On the CPU an anonymous temporary file backs it, and disappears with the process."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(shape)


def interpolation_corners(
    source: int, target: int, mode: Literal["bilinear", "nearest"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Source indices int64 and weights float32, (target, 1 or 2) each, for interpolation along one axis.

    Read off `F.interpolate` itself by interpolating the identity matrix, so that its rounding is kept.
    """
    identity = torch.eye(source)[None]  # (1, source, source)
    if mode == "nearest":
        matrix, corners = F.interpolate(identity, target, mode="nearest"), 1
    else:
        matrix, corners = F.interpolate(identity, target, mode="linear", align_corners=False), min(2, source)
    weights, indices = matrix[0].T.topk(corners, dim=1)
    return indices.to(device), weights.to(device)
