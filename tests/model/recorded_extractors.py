"""Checkpoints in the layouts of MAE and SwAV, and what the published feature extractors said of such networks.

Weights come from their names: `golden_weights.tensor("NAME/KEY", SHAPE)` for every entry of `golden/NAME.shapes.json`,
which are the published pre-training networks' own, decoder or projection head included. Recorded with
yandex-research/ddpm-segmentation (9a13776), dbaranchuk/mae (8063459) and facebookresearch/swav (06b1b7c), float32, CPU.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.network import Network
from ddpm_seg.model.resident import resident_extractor
from tests.model import golden_weights

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "extractors.json").read_text())


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((GOLDEN / f"{name}.shapes.json").read_text()).items()}


def state(name: str, *, without_values: bool = False) -> dict[str, Tensor]:
    """A state dict as the pre-training wrote it; `without_values` zeros, which take no room."""
    if without_values:
        return {key: torch.zeros(()).expand(shape) for key, shape in shapes(name).items()}
    return {key: _tensor(name, key, shape) for key, shape in shapes(name).items()}


def write_checkpoint(path: Path, name: str, *, without_values: bool = False) -> str:
    """A checkpoint file as the pre-training left it."""
    weights = state(name, without_values=without_values)
    if CASES[name]["model_type"] == "mae":
        torch.save({"model": weights, "epoch": 1, "args": argparse.Namespace(mask_ratio=0.75)}, path)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}, "epoch": 1}, path)
    return str(path)


def assert_as_recorded(name: str, network: Network, weights: dict[str, Tensor]) -> None:
    """Features of the case's image equal the recorded ones to 1e-4 of their scale."""
    recorded, size = np.load(GOLDEN / f"{name}.npz"), CASES[name]["image_size"]
    assert network.image_size == size
    features = network.published_features()
    image = golden_weights.image(CASES[name]["image_seed"], size)
    with torch.inference_mode():
        maps = resident_extractor(Bundle(network=network, weights=weights), "cpu")(image[None], features)
    assert [one.shape[1:] for one in maps] == [tuple(shape) for shape in recorded["block_shapes"]]
    assert features.channels(network) == [one.shape[1] for one in maps]
    assert features.sides(network) == [one.shape[3] for one in maps]
    np.testing.assert_allclose([one.mean() for one in maps], recorded["map_means"], atol=1e-4)
    np.testing.assert_allclose([one.std() for one in maps], recorded["map_deviations"], rtol=1e-4)
    large = [torch.nn.functional.interpolate(one, size=(size, size), mode="bilinear")[0] for one in maps]
    found = torch.cat(large).flatten(1).T[torch.from_numpy(recorded["pixel_index"])].numpy()
    assert np.abs(found - recorded["features"]).max() <= 1e-4 * np.abs(recorded["features"]).max()


def _tensor(name: str, key: str, shape: tuple[int, ...]) -> Tensor:
    if not shape:
        return torch.tensor(0)
    value = torch.from_numpy(golden_weights.tensor(f"{name}/{key}", shape))
    # As large as what they are added to, so that a mistake in them shows.
    return value * math.sqrt(math.prod(shape[1:])) if key in ("cls_token", "pos_embed") else value
