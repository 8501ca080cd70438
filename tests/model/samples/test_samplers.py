"""Samplers against what is known without a network: perfect denoisers, each other, and the respacing rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.samples.sample_noise import SampleNoise
from ddpm_seg.model.samples.samplers import sample_ancestral, sample_ddim, sample_dpm_solver
from ddpm_seg.model.samples.sampling import even_timesteps, quadratic_timesteps
from tests.model.tiny_networks import assert_close, normal


@pytest.mark.parametrize(("steps", "count"), [(1000, 10), (1000, 1000), (1000, 250), (50, 7), (50, 2)])
def test_even_timesteps_go_from_the_first_to_the_last(steps: int, count: int) -> None:
    timesteps = even_timesteps(steps, count)
    assert (timesteps[0], timesteps[-1], len(timesteps)) == (0, steps - 1, count)
    strides = np.diff(timesteps)
    assert strides.max() - strides.min() <= 1


@pytest.mark.parametrize("count", [1, 0, 51])
def test_even_timesteps_that_do_not_fit_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} timesteps do not fit into 0..49: expected 2 to 50"):
        even_timesteps(50, count)


def test_quadratic_timesteps_grow_evenly_in_their_roots() -> None:
    timesteps = quadratic_timesteps(800, 20)
    assert (timesteps[0], timesteps[-1], len(timesteps)) == (0, 800, 20)
    roots = [timestep**0.5 for timestep in timesteps[5:]]
    steps = [after - before for before, after in itertools.pairwise(roots)]
    assert max(steps) - min(steps) < 0.15
    assert quadratic_timesteps(9, 4) == [0, 1, 4, 9]


@pytest.mark.parametrize(("last", "count"), [(80, 20), (9, 10), (40, 39), (1, 2), (100, 60)])
def test_quadratic_timesteps_near_0_are_moved_apart(last: int, count: int) -> None:
    timesteps = quadratic_timesteps(last, count)
    assert (timesteps[0], timesteps[-1], len(timesteps)) == (0, last, count)
    assert timesteps == sorted(set(timesteps))


@pytest.mark.parametrize(("last", "count"), [(800, 1), (800, 0), (10, 12)])
def test_quadratic_timesteps_that_do_not_fit_are_refused(last: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} timesteps do not fit into 0..{last}: expected 2 to {last + 1}"):
        quadratic_timesteps(last, count)


@pytest.mark.parametrize("predict_xstart", [False, True])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(("schedule", "steps", "count"), [("linear", 1000, 10), ("cosine", 100, 4), ("linear", 50, 50)])
def test_a_perfect_denoiser_gives_back_its_image(
    schedule: Any, steps: int, count: int, predict_xstart: bool, learned: bool
) -> None:
    config = DiffusionConfig(steps=steps, noise_schedule=schedule, predict_xstart=predict_xstart)
    whole = Diffusion(config)
    x_0 = normal(0, 2, 3, 4, 4).clamp(-0.9, 0.9)
    calls: list[int] = []

    def knows_the_image(x_t: Tensor, t_N: Tensor) -> Tensor:
        calls.append(int(t_N[0]))
        answer = x_0 if predict_xstart else whole.predict_eps(x_t, t_N, x_0)
        return torch.cat([answer, torch.zeros_like(answer)], dim=1) if learned else answer

    timesteps = even_timesteps(steps, count)
    assert_close(sample_ddim(knows_the_image, Diffusion(config, timesteps), normal(1, 2, 3, 4, 4)), x_0, 1e-4)
    assert calls == timesteps[::-1]


def test_the_path_is_deterministic_and_keeps_the_noise() -> None:
    """Half way, a perfect denoiser's sample is the image under the very noise it started from."""
    config = DiffusionConfig(steps=1000, predict_xstart=True)
    diffusion, x_0, x_T = Diffusion(config, [0, 300, 999]), normal(0, 1, 3, 4, 4).clamp(-1, 1), normal(1, 1, 3, 4, 4)
    seen: list[Tensor] = []

    def knows_the_image(x_t: Tensor, t_N: Tensor) -> Tensor:
        seen.append(x_t)
        return x_0

    sample_ddim(knows_the_image, diffusion, x_T)
    eps = diffusion.predict_eps(x_T, torch.tensor([2]), x_0)
    for index, x_t in zip((2, 1, 0), seen, strict=True):
        assert_close(x_t, diffusion.q_sample(x_0, torch.tensor([index]), eps), 1e-5)


def test_with_eta_1_a_step_is_ancestral_samplings() -> None:
    """Ho et al., equation 7: the posterior's mean, and noise of its variance beta-tilde."""
    config = DiffusionConfig(steps=1000, predict_xstart=True)
    diffusion, x_0, x_T = Diffusion(config, [0, 300]), normal(0, 2, 3, 4, 4).clamp(-1, 1), normal(1, 2, 3, 4, 4)
    seen: list[Tensor] = []

    def knows_the_image(x_t: Tensor, t_N: Tensor) -> Tensor:
        seen.append(x_t)
        return x_0

    sample = sample_ddim(knows_the_image, diffusion, x_T, eta=1.0, noise=SampleNoise(0, range(2), 4))
    assert_close(sample, x_0, 1e-5)
    mean = diffusion.p_mean_variance(lambda x, t: x_0, x_T, torch.tensor([1, 1])).mean
    noise = SampleNoise(0, range(2), 4)()
    assert_close(seen[1], mean + float(diffusion.posterior_variance[1]) ** 0.5 * noise, 1e-5)


Sampler = Callable[[Callable[[Tensor, Tensor], Tensor], Diffusion, Tensor, SampleNoise], Tensor]
SAMPLERS: dict[str, Sampler] = {
    "ancestral": lambda model, diffusion, x_T, noise: sample_ancestral(model, diffusion, x_T, noise),
    "ddim": lambda model, diffusion, x_T, noise: sample_ddim(model, diffusion, x_T),
    "ddim, eta 1": lambda model, diffusion, x_T, noise: sample_ddim(model, diffusion, x_T, eta=1.0, noise=noise),
    "dpm solver": lambda model, diffusion, x_T, noise: sample_dpm_solver(model, diffusion, x_T),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(sampler: str) -> None:
    diffusion = Diffusion(DiffusionConfig(), [0, 9, 90, 800])

    def sample(numbers: list[int]) -> Tensor:
        noise = SampleNoise(7, numbers, 4)
        return SAMPLERS[sampler](lambda x, t: 0.9 * x, diffusion, noise(), noise)

    together = sample([3, 8, 5])
    assert torch.equal(together[1:2], sample([8]))
    assert not torch.equal(together[:1], together[1:2])


def test_noise_is_missed_where_it_is_needed() -> None:
    with pytest.raises(ValueError, match=r"eta 0\.5 needs noise to draw from"):
        sample_ddim(lambda x, t: x, Diffusion(DiffusionConfig(), [0, 9]), normal(1, 3, 3, 4, 4), eta=0.5)


def of_gaussian_data(deviation: float, diffusion: Diffusion) -> Callable[[Tensor, Tensor], Tensor]:
    """The one perfect prediction of x_0 where the data are independent N(0, deviation^2): E[x_0 | x_t]."""

    def predict(x_t: Tensor, t_N: Tensor) -> Tensor:
        index = int((torch.as_tensor(diffusion.timesteps) == int(t_N[0])).nonzero())
        alpha_bar = diffusion.alpha_bar[index]
        return math.sqrt(alpha_bar) * deviation**2 / (alpha_bar * deviation**2 + 1 - alpha_bar) * x_t

    return predict


@pytest.mark.parametrize(("sampler", "count", "within"), [("ancestral", 250, 0.03), ("ddim, eta 1", 250, 0.03),
                                                          ("ddim", 250, 0.03), ("dpm solver", 40, 0.03)])  # fmt: skip
def test_samples_of_a_perfect_network_are_distributed_as_the_data(sampler: str, count: int, within: float) -> None:
    config, deviation = DiffusionConfig(predict_xstart=True), 0.2  # five deviations fit into [-1, 1]
    diffusion = Diffusion(config, quadratic_timesteps(999, count))
    noise = SampleNoise(0, range(2), 64)
    samples = SAMPLERS[sampler](of_gaussian_data(deviation, diffusion), diffusion, noise(), noise)
    assert float(samples.std()) == pytest.approx(deviation, rel=within)
    assert abs(float(samples.mean())) < 0.01


def test_the_second_order_solver_comes_nearer_to_the_exact_path_than_ddim() -> None:
    """Of Gaussian data, each x_T ends at itself times the ratio of the deviations (probability-flow ODE)."""
    config, deviation, x_T = DiffusionConfig(predict_xstart=True), 0.2, normal(0, 1, 3, 16, 16)
    whole = Diffusion(config)
    first = whole.alpha_bar[-1]
    exact = x_T * deviation / math.sqrt(first * deviation**2 + 1 - first)
    for count in (20, 40, 80):
        diffusion = Diffusion(config, quadratic_timesteps(999, count))
        model = of_gaussian_data(deviation, diffusion)
        off = {
            "ddim": (sample_ddim(model, diffusion, x_T) - exact).abs().mean(),
            "dpm solver": (sample_dpm_solver(model, diffusion, x_T) - exact).abs().mean(),
        }
        assert off["dpm solver"] < 0.5 * off["ddim"]


def test_of_first_order_the_solver_is_ddim() -> None:
    """Lu et al., 2022, section 4: with one prediction, and in its last step, which two timesteps leave alone."""
    diffusion, x_T = Diffusion(DiffusionConfig(), [60, 700]), normal(0, 2, 3, 8, 8)
    solved = sample_dpm_solver(lambda x, t: 0.8 * x, diffusion, x_T)
    assert_close(solved, sample_ddim(lambda x, t: 0.8 * x, diffusion, x_T), 1e-5)


def test_ancestral_sampling_has_the_networks_own_variance() -> None:
    diffusion, x_T = Diffusion(DiffusionConfig(), [0, 400]), normal(0, 2, 3, 8, 8)
    seen: list[Tensor] = []

    def network(x_t: Tensor, t_N: Tensor) -> Tensor:
        seen.append(x_t)
        return torch.cat([0.5 * x_t, torch.full_like(x_t, 0.3)], dim=1)

    sample_ancestral(network, diffusion, x_T, SampleNoise(4, range(2), 8))
    step = diffusion.p_mean_variance(network, x_T, torch.tensor([1, 1]))
    assert_close((seen[1] - step.mean) / step.variance.sqrt(), SampleNoise(4, range(2), 8)(), 1e-4)


def test_noise_of_each_seed_and_number_is_its_own() -> None:
    names = [(seed, number) for seed in (0, 1, 2**32, 2**40) for number in (0, 1, 50_000, 2**33)]
    drawn = torch.stack([SampleNoise(seed, [number], 4)()[0] for seed, number in names])
    assert len({one.numpy().tobytes() for one in drawn}) == len(names)
    noise = SampleNoise(3, range(4), 64)
    first, second = noise(), noise()
    assert not torch.equal(first, second)
    assert abs(float(first.mean())) < 0.02
    assert float(first.std()) == pytest.approx(1, abs=0.02)


def test_samples_stay_in_range_and_carry_no_gradient() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    config = DiffusionConfig(steps=100, noise_schedule="cosine")
    sample = sample_ddim(lambda x, t: x * scale, Diffusion(config, even_timesteps(100, 5)), normal(1, 2, 3, 4, 4))
    assert not sample.requires_grad
    assert sample.abs().max() <= 1
