"""The shared noise that published classifiers were trained with, made from its seed without a GPU.

Classifiers were trained on activations under one fixed noise. Under other noise they work worse, and nothing reports
it. ModelScope draws the noise with torch's CPU generator; the authors of ddpm-segmentation drew it on their GPU. That
stream is Philox 4x32-10 (Salmon et al., SC 2011) with cuRAND's Box-Muller transform, in the order in which
`torch.randn` hands elements to GPU threads (ATen/native/cuda/DistributionTemplates.h, `distribution_nullary_kernel`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK_THREADS = 256
RESIDENT_BLOCKS = 864
"""Blocks of 256 threads that an A100 runs at once (108 processors of 2048 threads).

It affects the order of the numbers only if a tensor needs more blocks: 3×256×256 needs 768, so every GPU with at least
that many gives the same noise, while 3×512×512 is specific to the A100.
"""

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)

_Words = npt.NDArray[np.uint64]


def torch_cpu_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """`torch.randn(shape)` from a freshly seeded CPU generator: float32 (as in ModelScope's
    `DDPMSegmentationModel`)."""
    _check_seed(seed)
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def torch_cuda_noise(seed: int, shape: Sequence[int], *, resident_blocks: int = RESIDENT_BLOCKS) -> Tensor:
    """`torch.randn(shape, device="cuda")` from a freshly seeded generator: float32, on the CPU.

    Differs from the GPU's by about 1e-6, as the GPU approximates logarithm, sine and cosine in its own way.
    """
    _check_seed(seed)
    size = math.prod(shape)
    blocks = min(-(-size // BLOCK_THREADS), resident_blocks)
    threads = blocks * BLOCK_THREADS
    flat = np.empty(size, dtype=np.float32)
    # Thread i draws four normals at a time and stores them `threads` elements apart, starting at element i.
    for draw, start in enumerate(range(0, size, 4 * threads) if size else ()):
        normals = _box_muller(philox_4x32_10(seed, np.arange(threads, dtype=np.uint64), draw)).reshape(-1)
        flat[start : start + normals.size] = normals[: size - start]
    return torch.from_numpy(flat).reshape(tuple(shape))


def philox_4x32_10(seed: int, subsequence: _Words, draw: int) -> _Words:
    """Words (4, T), each below 2^32, of draw number `draw` in each of the T subsequences (`curand_init`, `curand4`)."""
    subsequence = subsequence.astype(np.uint64)
    count = np.full_like(subsequence, draw)
    x, y, z, w = count & _LOW, count >> _HIGH, subsequence & _LOW, subsequence >> _HIGH
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        left, right = x * np.uint64(_MULTIPLIERS[0]), z * np.uint64(_MULTIPLIERS[1])
        x, y, z, w = (
            (right >> _HIGH) ^ y ^ np.uint64(key[0]),
            right & _LOW,
            (left >> _HIGH) ^ w ^ np.uint64(key[1]),
            left & _LOW,
        )
        key = [(word + weyl) & 0xFFFFFFFF for word, weyl in zip(key, _WEYL, strict=True)]
    return np.stack([x, y, z, w])


def _box_muller(words: _Words) -> npt.NDArray[np.float32]:
    """Words (4, T) to standard normals (4, T), in pairs (`curand_normal4`, `_curand_box_muller`).

    Rounds the uniform numbers to float32 where cuRAND does: near 1 the logarithm magnifies the rounding.
    """
    uniform = words.astype(np.float32).astype(np.float64)
    step, step_2pi = 2.0**-32, float(np.float32(2 * math.pi)) * 2.0**-32
    u = (uniform[0::2] * step + step / 2).astype(np.float32).astype(np.float64)
    v = (uniform[1::2] * step_2pi + step_2pi / 2).astype(np.float32).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log(u))
    normals = np.empty(words.shape, dtype=np.float32)
    normals[0::2], normals[1::2] = radius * np.sin(v), radius * np.cos(v)
    return normals


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**64:
        raise ValueError(f"noise seed {seed}; expected an integer from 0 to 2^64 - 1")
