"""Fréchet and kernel distance between two sets of images, from a feature vector per image."""

# Shapes: N and M images, D features.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

SUBSETS, SUBSET_SIZE = 100, 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelDistance:
    """A kernel distance over random subsets."""

    mean: float
    deviation: float


def frechet_distance(a_ND: NDArray[Any], b_MD: NDArray[Any]) -> float:
    """Fréchet distance between Gaussians with the sets' means and covariances (Heusel et al., 2017, section 3). With
    Inception's features this is FID.

    Far too large if the sets have no more images than features. Raises ValueError for sets of fewer than two images.
    """
    _check(a_ND, b_MD)
    mean_a, mean_b = a_ND.mean(axis=0), b_MD.mean(axis=0)
    cov_a, cov_b = (np.atleast_2d(np.cov(set_, rowvar=False)) for set_ in (a_ND, b_MD))
    # cov_a cov_b has the same eigenvalues as this symmetric matrix, so rounding cannot make their roots complex.
    root_a = _symmetric_root(cov_a)
    cross = linalg.eigvalsh(root_a @ cov_b @ root_a)
    traces = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + traces)


def kernel_distance(a_ND: NDArray[Any], b_MD: NDArray[Any], *, seed: int = 0) -> KernelDistance:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased (Bińkowski et al., 2018, section 4).
    With Inception's features this is KID.

    Its expectation does not depend on the number of images. Averages over 100 random subsets of 1000 images, as usual,
    or of as many as the smaller set has. Raises ValueError for sets of fewer than two images.
    """
    _check(a_ND, b_MD)
    generator = np.random.default_rng(seed)
    size = min(SUBSET_SIZE, len(a_ND), len(b_MD))
    found = []
    for _ in range(SUBSETS):
        a, b = (set_[generator.choice(len(set_), size, replace=False)].astype(np.float64) for set_ in (a_ND, b_MD))
        found.append(_squared_mmd(a, b))
    return KernelDistance(mean=float(np.mean(found)), deviation=float(np.std(found)))


def _squared_mmd(a_ND: NDArray[Any], b_ND: NDArray[Any]) -> float:
    n, d = a_ND.shape
    k_aa, k_bb, k_ab = ((x @ y.T / d + 1) ** 3 for x, y in ((a_ND, a_ND), (b_ND, b_ND), (a_ND, b_ND)))
    within = (k_aa.sum() - np.trace(k_aa) + k_bb.sum() - np.trace(k_bb)) / (n * (n - 1))
    return float(within - 2 * k_ab.mean())


def _symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _check(a_ND: NDArray[Any], b_MD: NDArray[Any]) -> None:
    if a_ND.ndim != 2 or b_MD.ndim != 2 or a_ND.shape[1] != b_MD.shape[1]:
        raise ValueError(f"expected two sets of features (N, D) and (M, D), got {a_ND.shape} and {b_MD.shape}")
    if min(len(a_ND), len(b_MD)) < 2:
        raise ValueError(f"a set needs at least 2 images, got {len(a_ND)} and {len(b_MD)}")
