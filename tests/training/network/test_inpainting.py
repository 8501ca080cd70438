"""What a MAE is trained on: patches, what is shown, and that only the hidden ones count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.training.network.inpainting import Inpainting, MaskedAutoencoder, patches
from ddpm_seg.training.network.network_training import NetworkTraining, draw_images
from ddpm_seg.training.optimization import Optimization

CONFIG = MAEConfig(image_size=16, patch_size=4, width=24, depth=3, num_heads=3)
INPAINTING = Inpainting(CONFIG)


def _images(count: int = 8) -> np.ndarray:
    """Slanted waves of any phase and colour: what is hidden follows from what shows."""
    rng = np.random.default_rng(0)
    phase, colour = rng.random((count, 1, 1, 1)) * 6, rng.random((count, 1, 1, 3))
    y, x = np.mgrid[:16, :16]
    waves = 0.5 + 0.5 * np.sin(0.8 * (x + y)[None, :, :, None] + phase)
    return (255 * waves * colour).astype(np.uint8)


def _batch(images: np.ndarray, count: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return INPAINTING.draw(*draw_images(images, Optimization(batch_size=count, seed=seed), 0))


def test_a_patch_is_a_square_of_the_image() -> None:
    x = torch.rand(2, 3, 16, 16)
    found = patches(x, 4)
    assert found.shape == (2, 16, 48)
    torch.testing.assert_close(found[1, 6].reshape(4, 4, 3), x[1, :, 4:8, 8:12].permute(1, 2, 0))


def test_every_order_shows_each_patch_once() -> None:
    order = _batch(_images())[1]
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(8, -1))
    assert len({tuple(row) for row in order.tolist()}) == 8


@torch.no_grad()
def test_hidden_pixels_reach_no_prediction_and_shown_ones_reach_all() -> None:
    network = MaskedAutoencoder(CONFIG).eval()
    x, order = _batch(_images())
    mask = torch.ones(8, 16).scatter(1, order[:, :4], 0).reshape(8, 1, 4, 4)
    hidden = torch.nn.functional.interpolate(mask, scale_factor=4).bool()
    before = network(x, order)
    torch.testing.assert_close(network(torch.where(hidden, 9.0, x), order), before)
    changed = network(torch.where(hidden, x, 9.0), order) - before
    assert bool((changed.abs().amax(dim=2) > 1e-4).all())


@torch.no_grad()
def test_with_everything_shown_the_encoder_is_that_of_the_features(monkeypatch) -> None:
    """The blocks that features are read from see what the training's encoder saw."""
    monkeypatch.setattr("ddpm_seg.training.network.inpainting.SHOWN", 1.0)
    network = MaskedAutoencoder(CONFIG).eval()
    x, order = _batch(_images())
    seen = []
    network.encoder.blocks[-1].register_forward_hook(lambda module, args, output: seen.append(output))
    network(x, order)
    (features,) = network.encoder.activations(x, [2])
    shuffled, restored = seen[0][:, 1:], order.argsort(dim=1)
    ordered = torch.stack([row[back] for row, back in zip(shuffled, restored, strict=True)])
    torch.testing.assert_close(ordered.transpose(1, 2).reshape_as(features), features, rtol=0, atol=1e-4)


@torch.no_grad()
def test_only_hidden_patches_count() -> None:
    x, order = _batch(_images())

    def loss(wrong: torch.Tensor) -> float:
        target = patches(x, 4)
        target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
        error = torch.zeros(8, 16, 1).scatter(1, wrong[:, :, None], 1.0)
        return float(INPAINTING.loss(lambda x, order: target + error, x, order))  # type: ignore[arg-type]

    assert loss(order[:, :4]) == pytest.approx(0, abs=1e-6)
    assert loss(order[:, 4:]) == pytest.approx(1, rel=1e-4)
    assert loss(order[:, 4:10]) == pytest.approx(0.5, rel=1e-4)


def test_training_lowers_the_loss_on_masks_it_has_not_met() -> None:
    training = NetworkTraining(INPAINTING, Optimization(iterations=300, batch_size=16, learning_rate=2e-3), Worker())
    unseen = _batch(_images(), 64, seed=7)

    @torch.no_grad()
    def loss() -> float:
        return float(INPAINTING.loss(training.network, *unseen))

    before = loss()
    for _ in range(200):
        training.step(_images())
    assert loss() < 0.5 * before


def test_a_width_that_the_decoder_cannot_halve_is_named() -> None:
    with pytest.raises(ValueError, match="width 9 must be a multiple of twice num_heads 3"):
        MaskedAutoencoder(MAEConfig(image_size=16, patch_size=4, width=9, depth=1, num_heads=3))
