"""The noise of a GPU, from its published numbers, from Philox's own test vectors, and element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddpm_seg.model.published.noise import philox_4x32_10, torch_cpu_noise, torch_cuda_noise


def test_seed_0_on_a_gpu() -> None:
    """The numbers that an A100 gives for torch.randn(1, 3, 256, 256)."""
    noise = torch_cuda_noise(0, (1, 3, 256, 256))
    expected = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709]
    torch.testing.assert_close(noise.flatten()[:8], torch.tensor(expected), atol=1e-6, rtol=0)
    assert noise.shape == (1, 3, 256, 256)
    assert noise.dtype == torch.float32


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_it_is_standard_normal(seed: int) -> None:
    """Each bound is five standard errors."""
    noise = torch_cuda_noise(seed, (3, 256, 256)).double().flatten()
    n = len(noise)
    assert abs(noise.mean()) < 5 / n**0.5
    assert abs(noise.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((noise**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert len(noise.unique()) > 0.99 * n  # no thread repeats another's numbers


@pytest.mark.parametrize(
    ("seed", "subsequence", "draw", "words"),
    [  # philox4x32-10 of the known-answer file of Random123
        (0, 0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (2**64 - 1, 2**64 - 1, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            0x299F31D0A4093822,
            0x0370734413198A2E,
            0x85A308D3243F6A88,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(seed: int, subsequence: int, draw: int, words: tuple[int, ...]) -> None:
    found = philox_4x32_10(seed, np.array([subsequence], dtype=np.uint64), draw)
    assert tuple(int(word) for word in found[:, 0]) == words


@pytest.mark.parametrize(("size", "resident_blocks"), [(1, 864), (300, 864), (600, 2), (1500, 1), (5000, 2)])
def test_order_of_the_elements(size: int, resident_blocks: int) -> None:
    """Element by element: which thread, which draw of it and which of the draw's four (PyTorch's grid-stride loop)."""
    threads = 256 * min(math.ceil(size / 256), resident_blocks)
    expected = []
    for element in range(size):
        draw, rest = divmod(element, 4 * threads)
        lane, thread = divmod(rest, threads)
        words = philox_4x32_10(7, np.array([thread], dtype=np.uint64), draw)[:, 0]
        first, second = (int(word) for word in words[2 * (lane // 2) :][:2])
        radius = math.sqrt(-2 * math.log((first + 0.5) / 2**32))
        angle = (second + 0.5) / 2**32 * 2 * math.pi
        expected.append(radius * (math.cos(angle) if lane % 2 else math.sin(angle)))
    found = torch_cuda_noise(7, (size,), resident_blocks=resident_blocks)
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-6, rtol=0)


def test_small_tensors_are_the_beginning_of_large_ones() -> None:
    """While every element has a thread of its own, size does not matter."""
    large = torch_cuda_noise(3, (3, 256, 256)).flatten()
    torch.testing.assert_close(torch_cuda_noise(3, (1, 3, 8, 8)).flatten(), large[:192], atol=0, rtol=0)


def test_cpu_noise_is_torch_own() -> None:
    torch.manual_seed(0)
    assert torch.equal(torch_cpu_noise(0, (1, 3, 16, 16)), torch.randn(1, 3, 16, 16))


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    torch_cpu_noise(5, (4,)), torch_cuda_noise(5, (4,))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    for noise in (torch_cpu_noise, torch_cuda_noise):
        with pytest.raises(ValueError, match=f"noise seed {seed}"):
            noise(seed, (4,))
