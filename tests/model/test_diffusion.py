"""Identities that the noise process and its reversal satisfy, and the reverse step written out plainly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_seg.benchmark import transcription
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig, cosine_betas, linear_betas
from tests.model.tiny_networks import assert_close, normal

SCHEDULES = [("linear", 1000), ("cosine", 1000), ("linear", 50), ("cosine", 50), ("linear", 4000), ("cosine", 2)]


def _diffusion(schedule: Any, steps: int, timesteps: list[int] | None = None, **flags: bool) -> Diffusion:
    return Diffusion(DiffusionConfig(noise_schedule=schedule, steps=steps, **flags), timesteps)


@pytest.mark.parametrize(("schedule", "steps"), SCHEDULES)
def test_signal_only_fades(schedule: str, steps: int) -> None:
    diffusion = _diffusion(schedule, steps)
    np.testing.assert_allclose(diffusion.alpha_bar, transcription.alpha_bars(schedule, steps), rtol=1e-9)
    betas = linear_betas(steps) if schedule == "linear" else cosine_betas(steps)
    np.testing.assert_allclose(betas, transcription.betas(schedule, steps), rtol=1e-9)
    np.testing.assert_allclose(diffusion.beta, betas, rtol=1e-9)
    assert (np.diff(diffusion.alpha_bar) < 0).all()
    assert 0 < diffusion.alpha_bar[-1] < diffusion.alpha_bar[0] < 1
    assert (diffusion.posterior_variance[1:] > 0).all()
    assert (diffusion.posterior_variance <= diffusion.beta).all()


def test_published_schedules_start_and_end_where_they_should() -> None:
    linear = linear_betas(1000)
    assert (linear[0], linear[-1]) == (pytest.approx(1e-4), pytest.approx(0.02))
    assert cosine_betas(1000).max() == 0.999
    # Any number of steps ends at nearly the same noise.
    assert [_diffusion("linear", steps).alpha_bar[-1] for steps in (250, 4000)] == pytest.approx([4e-5, 4e-5], rel=0.25)


@pytest.mark.parametrize(("schedule", "steps"), SCHEDULES)
def test_noise_and_image_explain_each_other(schedule: str, steps: int) -> None:
    diffusion = _diffusion(schedule, steps)
    x_0, noise = normal(0, 3, 3, 4, 4).clamp(-1, 1), normal(1, 3, 3, 4, 4)
    t_N = torch.tensor([0, steps // 3, steps // 2])
    x_t = diffusion.q_sample(x_0, t_N, noise)
    for index, t in enumerate(t_N.tolist()):
        assert_close(x_t[index], transcription.q_sample(x_0[index], float(diffusion.alpha_bar[t]), noise[index]), 1e-6)
    assert_close(diffusion.predict_xstart(x_t, t_N, noise), x_0, 1e-4)
    assert_close(diffusion.predict_eps(x_t, t_N, x_0), noise, 1e-3)


def test_noised_images_have_unit_variance() -> None:
    diffusion, x_0, noise = _diffusion("linear", 1000), normal(0, 1, 3, 64, 64), normal(1, 1, 3, 64, 64)
    for t in (0, 200, 999):
        assert diffusion.q_sample(x_0, torch.tensor([t]), noise).var().item() == pytest.approx(1, abs=0.05)


def test_one_noise_serves_every_image() -> None:
    diffusion, x_0, noise = _diffusion("linear", 1000), normal(0, 2, 3, 4, 4), normal(1, 1, 3, 4, 4)
    t_N = torch.tensor([100, 700])
    assert torch.equal(diffusion.q_sample(x_0, t_N, noise), diffusion.q_sample(x_0, t_N, noise.expand(2, -1, -1, -1)))


@pytest.mark.parametrize("predict_xstart", [False, True])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("timesteps", [None, list(range(0, 250, 25))])
def test_reverse_step_is_the_papers(
    predict_xstart: bool, learned: bool, clip: bool, timesteps: list[int] | None
) -> None:
    diffusion = _diffusion("cosine", 250, timesteps, predict_xstart=predict_xstart)
    output, x_t = normal(0, 3, 6 if learned else 3, 4, 4).double(), normal(1, 3, 3, 4, 4).double()
    t_N = torch.tensor([0, 1, 9])
    step = diffusion.p_mean_variance(lambda *_: output, x_t, t_N, clip_denoised=clip)

    kept = transcription.alpha_bars("cosine", 250)[timesteps or slice(None)]
    alpha_bar = np.append(1.0, kept)
    for index, t in enumerate(t_N.tolist()):
        now, before = alpha_bar[t + 1], alpha_bar[t]
        beta = 1 - now / before
        first_or_own = max(t, 1)  # the first step's beta-tilde is 0, whose place the second's takes
        next_now, next_before = alpha_bar[first_or_own + 1], alpha_bar[first_or_own]
        beta_tilde = (1 - next_now / next_before) * (1 - next_before) / (1 - next_now)

        x_0 = output[index, :3]
        if not predict_xstart:
            x_0 = (x_t[index] - math.sqrt(1 - now) * x_0) / math.sqrt(now)
        x_0 = x_0.clamp(-1, 1) if clip else x_0
        mean = (math.sqrt(before) * beta * x_0 + math.sqrt(now / before) * (1 - before) * x_t[index]) / (1 - now)
        if learned:
            v = (output[index, 3:] + 1) / 2
            log_variance = v * math.log(beta) + (1 - v) * math.log(beta_tilde)
        else:
            log_variance = torch.full_like(mean, math.log(beta if t else beta_tilde))
        assert_close(step.pred_xstart[index], x_0)
        assert_close(step.mean[index], mean)
        assert_close(step.log_variance[index], log_variance)
        assert_close(step.variance[index], log_variance.exp())


def test_posterior_of_the_true_image_is_where_the_chain_was() -> None:
    """Given the true noise, the mean of p(x_{t-1} | x_t) lies on the line between x_0 and x_t, near x_{t-1}'s mean."""
    diffusion, x_0 = _diffusion("linear", 1000), normal(0, 1, 3, 4, 4).clamp(-1, 1)
    t_N = torch.tensor([400])
    x_t = diffusion.q_sample(x_0, t_N, torch.zeros_like(x_0))
    mean = diffusion.p_mean_variance(lambda *_: torch.zeros_like(x_0), x_t, t_N).mean
    assert_close(mean, math.sqrt(diffusion.alpha_bar[399]) * x_0)


@pytest.mark.parametrize("rescale", [False, True])
def test_the_network_sees_the_original_timesteps(rescale: bool) -> None:
    diffusion = _diffusion("linear", 250, [0, 50, 249], rescale_timesteps=rescale)
    seen: list[Tensor] = []

    def model(x: Tensor, t_N: Tensor) -> Tensor:
        seen.append(t_N)
        return x

    diffusion.p_mean_variance(model, torch.zeros(3, 3, 2, 2), torch.tensor([0, 1, 2]))
    assert seen[0].tolist() == ([0, 200, 996] if rescale else [0, 50, 249])
    assert seen[0].is_floating_point() == rescale


def test_respacing_keeps_noise_levels() -> None:
    whole, kept = _diffusion("cosine", 100), [0, 7, 50, 99]
    respaced = _diffusion("cosine", 100, kept)
    np.testing.assert_array_equal(respaced.alpha_bar, whole.alpha_bar[kept])
    np.testing.assert_allclose(np.cumprod(1 - respaced.beta), respaced.alpha_bar)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"steps": 0}, "at least 2, got 0"),
        ({"steps": 1, "noise_schedule": "cosine"}, "at least 2, got 1"),
        ({"steps": 20}, "more than 20 steps.*got 20"),
        ({"noise_schedule": "quadratic"}, "'quadratic'"),
    ],
)
def test_impossible_schedules_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DiffusionConfig(**values)


@pytest.mark.parametrize("timesteps", [[], [5], [5, 5], [5, 3], [-1, 3], [0, 1000]])
def test_impossible_respacings_are_refused(timesteps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"timesteps") as raised:
        _diffusion("linear", 1000, timesteps)
    assert str(timesteps) in str(raised.value)
