"""Checkpoints in the layouts of StyleGAN2's, e4e's and pSp's codes, and what the published networks gave.

Weights come from their names (`gan_weights`). Recorded with NVlabs/stylegan2-ada-pytorch (d72cc7d), nv-tlabs/
editGAN_release, rosinality/stylegan2-pytorch (bef283a), omertov/encoder4editing (99ea505) and eladrich/
pixel2style2pixel (5cfff38), float32, CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.model import gan_weights, golden_weights

GOLDEN = Path(__file__).parent / "golden" / "stylegan"
CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "cases.json").read_text())
TOLERANCE = 1e-4
"""Of an array's deviation."""
BATCHES = ([0], [0, 1], [0, 1, 0])
"""Numbers of recorded latents, of which there are two, in batches of one, two and three."""


def recorded(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / f"{name}.npz"))


def latents(name: str, width: int) -> Tensor:
    return torch.from_numpy(gan_weights.normal(f"{name}/z", (CASES[name]["latents"], width)))


def picture(name: str) -> np.ndarray:
    """(1, S, S, 3) uint8."""
    return golden_weights.image(CASES[name]["image_seed"], CASES[name]["image_size"])[None]


def generator_state(name: str, prefix: str, part: str = "g") -> dict[str, Tensor]:
    """Every entry of the published generator, its blur kernels too."""
    state = _state(f"{name}.{part}_shapes.json", lambda key, shape: gan_weights.stylegan2(prefix, key, shape))
    return {key: value for key, value in state.items() if key != "latent_avg"}


def encoder_state(name: str, prefix: str) -> dict[str, Tensor]:
    return _state(f"{name}.encoder_shapes.json", lambda key, shape: gan_weights.encoder(prefix, key, shape))


def rosinality_checkpoint(name: str = "sg2_64") -> dict[str, Any]:
    case = CASES[name]
    mean = torch.from_numpy(gan_weights.stylegan2(case["prefix"], "latent_avg", (case["style_dim"],)))
    return {"g_ema": generator_state(name, case["prefix"]), "latent_avg": mean}


def inversion_checkpoint(name: str = "inv_64", **options: Any) -> dict[str, Any]:
    """As e4e's training writes it; `options` None leaves one out."""
    case = CASES[name]
    encoder, decoder = encoder_state(name, f"{name}/encoder"), generator_state(name, f"{name}/decoder", "decoder")
    mean = gan_weights.normal(f"{name}/latent_avg", (case["styles"], case["style_dim"]))
    opts = {
        "encoder_type": "Encoder4Editing",
        "stylegan_size": case["size"],
        "start_from_latent_avg": True,
        "exp_dir": "e",
        **options,
    }
    return {
        "state_dict": {
            **{f"encoder.{key}": value for key, value in encoder.items()},
            **{f"decoder.{key}": value for key, value in decoder.items()},
        },
        "opts": {key: value for key, value in opts.items() if value is not None},
        "latent_avg": torch.from_numpy(np.float32(0.3) * mean),
    }


def written(path: Path, content: Any, *, legacy: bool = False) -> str:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


def pixels(maps: Collection[Tensor], size: int, index: np.ndarray) -> np.ndarray:
    """All maps brought to `size` and concatenated, at the flat pixel positions `index`: (N, P, D)."""
    large = [torch.nn.functional.interpolate(one, size=(size, size), mode="bilinear") for one in maps]
    return torch.cat(large, dim=1).flatten(2)[:, :, torch.from_numpy(index)].transpose(1, 2).numpy()


def assert_equal(found: Tensor | np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * expected.std()


def _state(file: str, value: Callable[[str, tuple[int, ...]], np.ndarray]) -> dict[str, Tensor]:
    shapes = json.loads((GOLDEN / file).read_text())
    return {key: torch.from_numpy(np.asarray(value(key, tuple(shape)))) for key, shape in shapes.items()}
