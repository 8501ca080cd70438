"""Training of a network on unlabelled images: resuming, settings, workers' shares; of a DDPM and of a MAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.inpainting import Inpainting
from ddpm_seg.training.network.network_training import (
    NetworkTraining,
    Objective,
    Optimization,
    draw_images,
    learning_rate_factor,
    train_network,
)
from ddpm_seg.training.network.training_images import TrainingImages

UNET = UNetConfig(
    image_size=8, num_channels=32, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(4,), dropout=0.1
)
OBJECTIVES = {
    "ddpm": Denoising(UNET, DiffusionConfig(steps=50)),
    "mae": Inpainting(MAEConfig(image_size=8, patch_size=2, width=16, depth=3, num_heads=2)),
}


@pytest.fixture(params=OBJECTIVES)
def objective(request) -> Objective:
    return OBJECTIVES[request.param]


def _images(count: int = 12) -> np.ndarray:
    """Half bright, half dark squares: something that can be learned."""
    images = np.full((count, 8, 8, 3), 40, dtype=np.uint8)
    images[::2, 2:6, 2:6] = 220
    return images


def _training(objective: Objective, iterations: int = 8, **options: Any) -> NetworkTraining:
    return NetworkTraining(objective, Optimization(iterations=iterations, batch_size=4, **options), Worker())


def test_a_batch_depends_on_seed_and_iteration_alone(objective) -> None:
    def batch(iteration: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
        return objective.draw(*draw_images(_images(), Optimization(batch_size=4, seed=seed), iteration))

    assert all(torch.equal(a, b) for a, b in zip(batch(3), batch(3), strict=True))
    assert not torch.equal(batch(3)[-1], batch(4)[-1])
    assert not torch.equal(batch(3)[-1], batch(3, seed=1)[-1])


def test_drawing_leaves_the_images_as_they_are(objective) -> None:
    images = _images()
    objective.draw(*draw_images(images, Optimization(batch_size=64), 0))
    assert np.array_equal(images, _images())


def test_only_a_network_that_draws_images_ends_on_whole_ones(objective, monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger images are black, the whole ones bright, so that a batch shows which it is from."""
    images = TrainingImages(whole=np.full((6, 8, 8, 3), 220, np.uint8), larger=np.zeros((6, 12, 12, 3), np.uint8))
    training, draw, cropped = _training(objective), objective.draw, []

    def watched(batch: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        cropped.append(bool((batch == 0).all()))
        return draw(batch, rng)

    monkeypatch.setattr(objective, "draw", watched)
    for _ in range(8):
        training.step(images)
    draws_images = objective is OBJECTIVES["ddpm"]
    assert cropped == [True] * 6 + [not draws_images] * 2


def test_shares_of_a_batch_average_to_the_whole(objective) -> None:
    """What makes a run on more workers the same run: every rank's slice of the batch, averaged, is the batch."""
    network = objective.build().eval()
    batch = objective.draw(*draw_images(_images(), Optimization(batch_size=8), 0))
    with torch.no_grad():
        whole = objective.loss(network, *batch)
        shares = [objective.loss(network, *(part[rank::2] for part in batch)) for rank in range(2)]
    assert float(sum(shares) / 2) == pytest.approx(float(whole), rel=1e-5)


def test_an_interrupted_training_ends_as_an_undisturbed_one(objective, tmp_path) -> None:
    whole = _training(objective)
    train_network(whole, _images(), str(tmp_path / "whole.pt"), lambda _: None)

    def interrupt(training: NetworkTraining) -> None:
        if training.iteration == 5:
            raise KeyboardInterrupt

    state = str(tmp_path / "state.pt")
    with pytest.raises(KeyboardInterrupt):
        train_network(_training(objective), _images(), state, interrupt)
    resumed = _training(objective)
    torch.manual_seed(123)  # nothing may depend on the state of torch's global generator
    train_network(resumed, _images(), state, lambda _: None)
    for key, value in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[key], value, rtol=0, atol=1e-6)


def test_a_state_of_other_settings_is_refused(objective, tmp_path) -> None:
    state = str(tmp_path / "state.pt")
    train_network(_training(objective, 2), _images(), state, lambda _: None)
    with pytest.raises(ValueError, match=r"options\.learning_rate = 0\.0005, not 0\.5"):
        train_network(_training(objective, 2, learning_rate=0.5), _images(), state, lambda _: None)


def test_a_training_can_be_made_longer_until_its_learning_rate_falls(objective, tmp_path) -> None:
    """Stopped before the fall of the shorter length, it goes on to end as if the longer one had been asked for."""

    def stop_at(iteration: int) -> Callable[[NetworkTraining], None]:
        def report(training: NetworkTraining) -> None:
            if training.iteration == iteration:
                raise KeyboardInterrupt

        return report

    whole = _training(objective, 12)
    train_network(whole, _images(), str(tmp_path / "whole.pt"), lambda _: None)
    state = str(tmp_path / "state.pt")
    with pytest.raises(KeyboardInterrupt):
        train_network(_training(objective, 8), _images(), state, stop_at(6))
    longer = _training(objective, 12)
    train_network(longer, _images(), state, lambda _: None)
    for key, value in whole.average.state_dict().items():
        torch.testing.assert_close(longer.average.state_dict()[key], value, rtol=0, atol=1e-6)

    late = str(tmp_path / "late.pt")
    with pytest.raises(KeyboardInterrupt):
        train_network(_training(objective, 8), _images(), late, stop_at(7))
    with pytest.raises(ValueError, match=r"options\.iterations = 8, not 12"):
        train_network(_training(objective, 12), _images(), late, lambda _: None)


def test_bfloat16_trains_nearly_the_same_network(objective) -> None:
    exact, narrow = _training(objective, 5), _training(objective, 5, precision="bfloat16")
    for _ in range(5):
        exact.step(_images())
        narrow.step(_images())
    assert float(narrow.loss) == pytest.approx(float(exact.loss), rel=0.02)
    assert narrow.loss != exact.loss
    assert all(value.dtype == torch.float32 for value in narrow.network.state_dict().values())


def test_the_bundle_holds_the_average_in_float16(objective, tmp_path) -> None:
    training = _training(objective, 2)
    train_network(training, _images(), str(tmp_path / "state.pt"), lambda _: None)
    save_bundle(training.bundle({"training_images": 12}), str(tmp_path / "bundle"))
    bundle = load_bundle(str(tmp_path / "bundle"))
    average = training.average.state_dict()
    for key, value in bundle.weights.items():
        assert torch.equal(value, average[key if key in average else f"encoder.{key}"].half())
    assert bundle.provenance["training_images"] == 12
    assert not bundle.members


def test_the_state_of_another_network_is_refused(tmp_path) -> None:
    state = str(tmp_path / "state.pt")
    train_network(_training(OBJECTIVES["ddpm"], 2), _images(), state, lambda _: None)
    with pytest.raises(ValueError, match="is of another network"):
        train_network(_training(OBJECTIVES["mae"], 2), _images(), state, lambda _: None)


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
    with pytest.raises(ValueError, match=name.replace("_", "[-_]")):
        Optimization(**{name: value})


@pytest.mark.slow
def test_a_compiled_training_learns_the_same(caplog: pytest.LogCaptureFixture) -> None:
    plain, fast = (
        NetworkTraining(OBJECTIVES["mae"], Optimization(iterations=8, batch_size=4), Worker(), compile=compile)
        for compile in (False, True)
    )
    for _ in range(3):
        plain.step(_images())
        fast.step(_images())
    assert float(fast.loss) == pytest.approx(float(plain.loss), rel=1e-3)
    assert not [record for record in caplog.records if record.name.startswith("ddpm_seg")]  # it did compile
