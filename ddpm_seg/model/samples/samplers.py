"""Samplers: free functions from noise to images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.diffusion import Diffusion


@torch.no_grad()
def sample_ancestral(
    model: Callable[[Tensor, Tensor], Tensor], diffusion: Diffusion, x_T: Tensor, noise: Callable[[], Tensor]
) -> Tensor:
    """Ancestral sampling (Ho et al., 2020, algorithm 2) over the timesteps of `diffusion`. The variance is the
    network's, if it learned one (Nichol & Dhariwal, 2021, equation 15), else beta.

    `x_T` (N, 3, H, W) is standard normal; `noise` draws another such tensor for each step. Returns images of the same
    shape in [-1, 1].
    """
    x_t = x_T
    for index in reversed(range(len(diffusion.timesteps))):
        step = diffusion.p_mean_variance(model, x_t, _everywhere(index, x_T))
        x_t = step.mean + (0.5 * step.log_variance).exp() * noise() if index else step.mean
    return x_t


@torch.no_grad()
def sample_ddim(
    model: Callable[[Tensor, Tensor], Tensor],
    diffusion: Diffusion,
    x_T: Tensor,
    *,
    eta: float = 0.0,
    noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """DDIM (Song et al., 2021, equations 12 and 16) over the timesteps of `diffusion`.

    `x_T` (N, 3, H, W) is standard normal; returns images of the same shape in [-1, 1]. Deterministic with `eta` 0. With
    `eta` 1 it is as noisy as ancestral sampling, which corrects errors of a small network along the way; `noise` then
    draws a standard normal (N, 3, H, W) for each step. Raises ValueError if `eta` is not 0 and `noise` is None.
    """
    if eta and noise is None:
        raise ValueError(f"eta {eta} needs noise to draw from")
    x_t = x_T
    for index in reversed(range(len(diffusion.timesteps))):
        t_N = _everywhere(index, x_T)
        x_0 = diffusion.p_mean_variance(model, x_t, t_N).pred_xstart
        eps = diffusion.predict_eps(x_t, t_N, x_0)
        now, previous = diffusion.alpha_bar[index], diffusion.alpha_bar_prev[index]
        sigma = eta * math.sqrt((1 - previous) / (1 - now) * (1 - now / previous))
        x_t = math.sqrt(previous) * x_0 + math.sqrt(max(0.0, 1 - previous - sigma**2)) * eps
        if sigma and noise is not None:
            x_t = x_t + sigma * noise()
    return x_t


@torch.no_grad()
def sample_dpm_solver(model: Callable[[Tensor, Tensor], Tensor], diffusion: Diffusion, x_T: Tensor) -> Tensor:
    """DPM-Solver++(2M) (Lu et al., 2022, "DPM-Solver++", algorithm 2) over the timesteps of `diffusion`.

    Deterministic and of second order: each step extrapolates from the last two predictions of x_0. The first step has
    only one prediction, and the last one, to no noise at all, is infinitely long in log-SNR; both are therefore of
    first order, like DDIM. `x_T` (N, 3, H, W) is standard normal; returns images of the same shape in [-1, 1].
    """
    alpha, sigma = np.sqrt(diffusion.alpha_bar), np.sqrt(1 - diffusion.alpha_bar)
    half_log_snr = np.log(alpha / sigma)
    x_t, x_0_before = x_T, None
    for index in reversed(range(1, len(diffusion.timesteps))):
        x_0 = diffusion.p_mean_variance(model, x_t, _everywhere(index, x_T)).pred_xstart
        h = half_log_snr[index - 1] - half_log_snr[index]
        extrapolated = x_0
        if x_0_before is not None:
            r = (half_log_snr[index] - half_log_snr[index + 1]) / h
            extrapolated = x_0 + (x_0 - x_0_before) / (2 * r)
        x_t = sigma[index - 1] / sigma[index] * x_t - alpha[index - 1] * math.expm1(-h) * extrapolated
        x_0_before = x_0
    return diffusion.p_mean_variance(model, x_t, _everywhere(0, x_T)).pred_xstart


def _everywhere(index: int, x_T: Tensor) -> Tensor:
    """The schedule index `index` for each sample, int64 (N,)."""
    return torch.full((len(x_T),), index, dtype=torch.int64, device=x_T.device)
