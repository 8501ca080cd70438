"""Training of the DDPM: batches, weights, resuming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.model.bundle import load_bundle, save_bundle
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.unet import UNetConfig
from ddpm_seg.training.ddpm import (
    DDPMTraining,
    Optimization,
    Worker,
    denoising_loss,
    draw_batch,
    learning_rate_factor,
    train_ddpm,
)

UNET = UNetConfig(
    image_size=8, num_channels=32, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(4,), dropout=0.1
)
DIFFUSION = DiffusionConfig(steps=50)


def _images(count: int = 12) -> np.ndarray:
    """Half bright, half dark squares: something that can be learned."""
    images = np.full((count, 8, 8, 3), 40, dtype=np.uint8)
    images[::2, 2:6, 2:6] = 220
    return images


def _training(iterations: int = 8, **options: Any) -> DDPMTraining:
    return DDPMTraining(UNET, DIFFUSION, Optimization(iterations=iterations, batch_size=4, **options), Worker())


def test_a_batch_depends_on_seed_and_iteration_alone() -> None:
    options = Optimization(batch_size=4)
    first, again = draw_batch(_images(), 50, options, 3), draw_batch(_images(), 50, options, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[2], draw_batch(_images(), 50, options, 4)[2])
    assert not torch.equal(first[2], draw_batch(_images(), 50, Optimization(batch_size=4, seed=1), 3)[2])


def test_drawing_leaves_the_images_as_they_are() -> None:
    images = _images()
    draw_batch(images, 50, Optimization(batch_size=64), 0)
    assert np.array_equal(images, _images())


def test_the_loss_of_an_all_zero_network_is_the_weight_of_the_noise() -> None:
    diffusion = Diffusion(DIFFUSION)
    x_0, t_N, noise = draw_batch(_images(), 50, Optimization(batch_size=16), 0)
    snr = diffusion.alpha_bar[t_N] / (1 - diffusion.alpha_bar[t_N])
    expected = (noise.square().mean(dim=(1, 2, 3)).numpy() * np.minimum(snr, 5) / snr).mean()
    loss = denoising_loss(lambda x_t, t: torch.zeros_like(x_t), diffusion, x_0, t_N, noise)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_shares_of_a_batch_average_to_the_whole() -> None:
    """What makes a run on more workers the same run: every rank's slice of the batch, averaged, is the batch."""
    diffusion = Diffusion(DIFFUSION)
    training = _training()
    batch = draw_batch(_images(), 50, Optimization(batch_size=8), 0)
    training.unet.eval()
    with torch.no_grad():
        whole = denoising_loss(training.unet, diffusion, *batch)
        shares = [denoising_loss(training.unet, diffusion, *(part[rank::2] for part in batch)) for rank in range(2)]
    assert float(sum(shares) / 2) == pytest.approx(float(whole), rel=1e-5)


def test_training_lowers_the_loss_on_noise_it_has_not_met() -> None:
    training = _training(150, learning_rate=4e-3)
    unseen = draw_batch(_images(), 50, Optimization(batch_size=64), 10**6)

    @torch.no_grad()
    def loss() -> float:
        return float(denoising_loss(training.unet.eval(), training.diffusion, *unseen))

    before = loss()
    training.unet.train()
    for _ in range(150):
        training.step(_images())
    assert loss() < 0.6 * before


def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path) -> None:
    whole = _training()
    train_ddpm(whole, _images(), str(tmp_path / "whole.pt"), lambda _: None)

    def interrupt(training: DDPMTraining) -> None:
        if training.iteration == 5:
            raise KeyboardInterrupt

    state = str(tmp_path / "state.pt")
    with pytest.raises(KeyboardInterrupt):
        train_ddpm(_training(), _images(), state, interrupt)
    resumed = _training()
    torch.manual_seed(123)  # nothing may depend on the state of torch's global generator
    train_ddpm(resumed, _images(), state, lambda _: None)
    for key, value in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[key], value, rtol=0, atol=1e-6)


def test_a_state_of_other_settings_is_refused(tmp_path) -> None:
    state = str(tmp_path / "state.pt")
    train_ddpm(_training(2), _images(), state, lambda _: None)
    with pytest.raises(ValueError, match=r"options\.learning_rate = 0\.0005, not 0\.5"):
        train_ddpm(_training(2, learning_rate=0.5), _images(), state, lambda _: None)


def test_a_training_can_be_made_longer_until_its_learning_rate_falls(tmp_path) -> None:
    """Stopped before the fall of the shorter length, it goes on to end as if the longer one had been asked for."""

    def stop_at(iteration: int) -> Callable[[DDPMTraining], None]:
        def report(training: DDPMTraining) -> None:
            if training.iteration == iteration:
                raise KeyboardInterrupt

        return report

    whole = _training(12)
    train_ddpm(whole, _images(), str(tmp_path / "whole.pt"), lambda _: None)
    state = str(tmp_path / "state.pt")
    with pytest.raises(KeyboardInterrupt):
        train_ddpm(_training(8), _images(), state, stop_at(6))
    longer = _training(12)
    train_ddpm(longer, _images(), state, lambda _: None)
    for key, value in whole.average.state_dict().items():
        torch.testing.assert_close(longer.average.state_dict()[key], value, rtol=0, atol=1e-6)

    late = str(tmp_path / "late.pt")
    with pytest.raises(KeyboardInterrupt):
        train_ddpm(_training(8), _images(), late, stop_at(7))
    with pytest.raises(ValueError, match=r"options\.iterations = 8, not 12"):
        train_ddpm(_training(12), _images(), late, lambda _: None)


def test_bfloat16_trains_nearly_the_same_network() -> None:
    exact, narrow = _training(5), _training(5, precision="bfloat16")
    for _ in range(5):
        exact.step(_images())
        narrow.step(_images())
    assert narrow.loss == pytest.approx(exact.loss, rel=0.02)
    assert narrow.loss != exact.loss
    assert all(value.dtype == torch.float32 for value in narrow.unet.state_dict().values())


def test_the_bundle_holds_the_average_in_float16(tmp_path) -> None:
    training = _training(2)
    train_ddpm(training, _images(), str(tmp_path / "state.pt"), lambda _: None)
    save_bundle(training.bundle({"training_images": 12}), str(tmp_path / "bundle"))
    bundle = load_bundle(str(tmp_path / "bundle"))
    for key, value in training.average.state_dict().items():
        assert torch.equal(bundle.weights[key], value.half())
    assert bundle.provenance["training_images"] == 12
    assert not bundle.members


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    factors = [learning_rate_factor(i, 1000) for i in range(1000)]
    assert factors[0] < 0.01
    assert set(factors[200:750]) == {1.0}
    assert np.all(np.diff(factors[750:]) < 0)
    assert factors[-1] == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("name", "value"), [("iterations", 0), ("batch_size", -1), ("learning_rate", 0.0), ("ema_decay", 1.0)]
)
def test_wrong_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Optimization(**{name: value})
