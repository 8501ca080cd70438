"""Checkpoints in the layouts of VDVAE and ALAE, and what the published codes said of such networks.

Weights come from their names, as `state` says. Recorded with openai/vdvae and podgorskiy/ALAE (newest public versions
of 2026-11-25, torch 2.15), float32, one CPU thread.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.dtypes import FloatDType
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Network
from ddpm_seg.model.resident import resident_extractor
from tests.model import golden_weights
from tests.model.recorded_extractors import GOLDEN, shapes

PARTS = {"vdvae32": "vdvae", "alae128": "discriminator_s"}
ENC_BLOCKS, DEC_BLOCKS = "32x2,32d2,16x2,16d2,8x1,8d2,4x1,4d4,1x2", "1x2,4m1,4x1,8m4,8x2,16m8,16x2,32m16"
VDVAE32_FLAGS = {"enc_blocks": ENC_BLOCKS, "dec_blocks": DEC_BLOCKS, "dataset": "ffhq_256"}
VDVAE_SEED, ALAE_SEED, ALAE_SMALL_SEED = 11, 12, 13
"""Of the pictures."""


def state(name: str) -> dict[str, Tensor]:
    """A state dict as its training would have written it, with random weights."""
    return {key: weight(f"{name}/{PARTS[name]}", key, shape) for key, shape in shapes(name).items()}


def without_values(name: str) -> dict[str, Tensor]:
    """Zeros, which take no room."""
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes(name).items()}


def weight(prefix: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """What is added to maps is as large as they are, and noise would be small, so that a mistake shows."""
    value = golden_weights.tensor(f"{prefix}/{key}", shape)
    if key.startswith("decoder.bias_xs.") or key.endswith((".bias_1", ".bias_2")):
        value = value * np.sqrt(np.prod(shape[1:], dtype=np.float32))
    if key.endswith(".enc.c4.bias"):
        value[shape[0] // 2 :] -= 2
    if key.endswith("blur.weight"):
        value = np.broadcast_to(np.outer([1, 2, 1], [1, 2, 1]) / 16, shape).copy()
    return torch.from_numpy(value.astype(np.float32))


def save(path: Path, content: Any, *, legacy: bool = False) -> str:
    """`content` as torch.save writes it, in its zip or its older form."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


def save_alae(path: Path, encoder: dict[str, Tensor], *, legacy: bool = False) -> str:
    """A checkpoint of the published layout: all networks, and the training's own state with its two classes."""
    others = {"generator_s": {"const": torch.zeros(1, 4)}, "discriminator": {"from_rgb.0.from_rgb.bias": torch.ones(8)}}
    models = {**others, "discriminator_s": encoder}
    with alae_tracker() as tracker:
        tracks = OrderedDict(loss=tracker.RunningMeanTorch(), other=tracker.RunningMean())
        auxiliary = {"optimizer": {"state": {}}, "tracker": {"tracks": tracks}, "iteration": 5}
        return save(path, {"models": models, "auxiliary": auxiliary}, legacy=legacy)


@contextmanager
def alae_tracker() -> Iterator[Any]:
    """The module of the published code that its checkpoints name; gone when they are read."""
    module = ModuleType("tracker")
    for name in ("RunningMeanTorch", "RunningMean"):
        cls = type(name, (), {"__module__": "tracker", "__init__": _start})
        setattr(module, name, cls)
    sys.modules["tracker"] = module
    try:
        yield module
    finally:
        del sys.modules["tracker"]


def _start(self: Any) -> None:
    self.values = torch.ones(3)
    self.n = 3


def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@torch.inference_mode()
def maps_of(
    network: Network,
    weights: dict[str, Tensor],
    images: np.ndarray,
    blocks: Iterable[int],
    dtype: FloatDType = "float32",
) -> list[Tensor]:
    """Maps of `images` (N, S, S, 3) uint8, as the product's own extractor gives them."""
    extract = resident_extractor(Bundle(network=network, weights=weights), "cpu", dtype)
    return extract(images, FeatureConfig(steps=(), blocks=tuple(blocks)))


def at_pixels(maps: list[Tensor], size: int, index: np.ndarray) -> Tensor:
    """Features (P, D) of the first image at flat positions `index` (P,), the maps brought to the image's size."""
    large = [torch.nn.functional.interpolate(one[:1], size=(size, size), mode="bilinear")[0] for one in maps]
    return torch.cat(large).flatten(1).T[torch.from_numpy(index)]


def assert_equal_arrays(found: Any, expected: np.ndarray) -> None:
    """Within 1e-4 of the largest recorded value."""
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
