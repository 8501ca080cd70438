"""Clusters pixels by their activations: principal components, then k-means."""

# Shapes: N images of S x S pixels, P pixels, D features (all channels), Q principal components, K clusters.

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

COMPONENTS = 32
MOST_PIXELS, MOST_VALUES = 20_000, 2**27
"""Limits of the random pixels that the clusters are learned from: their number, and their number times D."""
LEAST_DEVIATION = 1e-3
"""A component that varies by less than this share of the first one is noise and is left out."""
ATTEMPTS, ITERATIONS = 3, 30


def cluster_pixels(maps: PixelFeatures, inside: NDArray[np.bool_], clusters: int, seed: int) -> NDArray[np.uint8]:
    """The cluster (N, S, S) uint8 of every pixel, the largest cluster first.

    Learns only from pixels that are `inside` (N, S, S) the images, not in the padding. Scales `maps` in place, so that
    every channel has the same weight within its map, and every map the same as the others. The same `seed` gives the
    same clusters. Raises ValueError if the pixels do not fall into that many clusters.
    """
    maps.standardize()
    for stored in maps.maps:
        stored /= math.sqrt(stored.shape[-1])
    pixels = _some(inside, min(MOST_PIXELS, MOST_VALUES // maps.num_features), seed)
    x_PD = maps.gather(torch.from_numpy(pixels))
    basis_DQ = _components(x_PD, seed)
    centres_KQ = _centres((x_PD @ basis_DQ).cpu().numpy(), clusters, seed)
    found = np.stack([_nearest(maps, index, basis_DQ, centres_KQ) for index in range(maps.num_images)])
    counts = np.bincount(found[inside], minlength=clusters)
    if not counts.all():
        raise ValueError(
            f"the pixels fall into only {np.count_nonzero(counts)} clusters; give --clusters {np.count_nonzero(counts)}"
        )
    rank = np.empty(clusters, np.uint8)
    rank[np.argsort(-counts, kind="stable")] = np.arange(clusters)
    return rank[found]


def _some(inside: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    positions = np.flatnonzero(inside)
    return np.sort(np.random.default_rng(seed).permutation(positions)[:count])


def _components(x_PD: Tensor, seed: int) -> Tensor:
    """The principal directions (D, Q), scaled so that the pixels have deviation 1 in each (whitening).

    K-means sees only these. Without the scaling, what most of the image shares outweighs the small parts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, sizes_Q, basis_DQ = torch.pca_lowrank(x_PD, q=min(COMPONENTS, *x_PD.shape))
    deviations_Q = sizes_Q / math.sqrt(len(x_PD))
    kept = deviations_Q > LEAST_DEVIATION * deviations_Q[0]
    return basis_DQ[:, kept] / deviations_Q[kept]


def _centres(x_PQ: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.float64]:
    """The best of a few k-means from different starts (k-means++): (K, Q)."""
    if clusters > len(x_PQ):
        raise ValueError(f"--clusters is {clusters}, but the images have only {len(x_PQ)} pixels")
    tried = []
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((seed, attempt))
        centres, _ = kmeans2(x_PQ.astype(np.float64), clusters, iter=ITERATIONS, minit="++", missing="raise", seed=rng)
        tried.append((vq(x_PQ, centres)[1].mean(), attempt, centres))
    return np.asarray(min(tried)[2], np.float64)


def _nearest(maps: PixelFeatures, index: int, basis_DQ: Tensor, centres_KQ: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The cluster (S, S) uint8 of each pixel of an image.

    Projects at each map's own resolution and then enlarges, which gives the same numbers as the other way round, but
    without all D features of all pixels.
    """
    size, channels = maps.image_size, [stored.shape[-1] for stored in maps.maps]
    x_QSS = torch.zeros(basis_DQ.shape[1], size, size, device=basis_DQ.device)
    for stored, basis_CQ in zip(maps.maps, basis_DQ.split(channels), strict=True):
        map_1Qhw = (stored[index].float() @ basis_CQ).permute(2, 0, 1)[None]
        x_QSS += F.interpolate(map_1Qhw, size, mode=maps.mode)[0]
    return vq(x_QSS.flatten(1).T.cpu().numpy(), centres_KQ)[0].astype(np.uint8).reshape(size, size)
