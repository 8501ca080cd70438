"""Noise schedules and the equations of Ho et al. (2020, "DDPM") and Nichol & Dhariwal (2021, "Improved DDPM")."""

# Shapes: x_t (N, 3, H, W) float; t_N (N,) int64 indices into the schedule; T steps.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.limits import MAX_TIMESTEPS, check_range


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionConfig:
    """The noise process that a network was trained for; fields are named like guided-diffusion's flags, where it has
    one."""

    steps: int = 1000
    noise_schedule: Literal["linear", "cosine"] = "linear"
    predict_xstart: bool = False
    rescale_timesteps: bool = False
    """Whether the sampler scales the network's timesteps to 0..1000. (The published feature extractor never does.)"""
    predict_v: bool = False
    """Whether the network predicts v = sqrt(alpha-bar) noise - sqrt(1 - alpha-bar) x_0 (Salimans & Ho, 2022, section
    4)."""
    betas: tuple[float, ...] | None = None
    """The schedule itself, (steps,), if it is not one of the named ones; `noise_schedule` is then ignored."""

    def __post_init__(self) -> None:
        check_range("diffusion steps", self.steps, MAX_TIMESTEPS, least=2)
        if self.noise_schedule not in ("linear", "cosine"):
            raise ValueError(f"noise_schedule must be 'linear' or 'cosine', got {self.noise_schedule!r}")
        if self.predict_xstart and self.predict_v:
            raise ValueError("predict_xstart and predict_v exclude each other: a network predicts either x_0 or v")
        if self.betas is not None:
            if len(self.betas) != self.steps or not all(0 < beta < 1 for beta in self.betas):
                raise ValueError(f"betas must be {self.steps} numbers between 0 and 1, got {len(self.betas)} of them")
        elif self.noise_schedule == "linear" and self.steps <= 20:
            raise ValueError(
                f"the linear schedule needs more than 20 steps (its last beta is 20 / steps), got {self.steps}"
            )


def betas_of(config: DiffusionConfig) -> NDArray[np.float64]:
    """The schedule's betas, (T,) float64."""
    if config.betas is not None:
        return np.array(config.betas)
    return linear_betas(config.steps) if config.noise_schedule == "linear" else cosine_betas(config.steps)


def linear_betas(steps: int) -> NDArray[np.float64]:
    """(T,) float64: Ho et al. section 4, scaled so that any number of steps ends at the same noise level."""
    return np.linspace(0.1 / steps, 20 / steps, steps, dtype=np.float64)


def cosine_betas(steps: int) -> NDArray[np.float64]:
    """(T,) float64: Nichol & Dhariwal equation 17, each beta at most 0.999."""
    f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReverseStep:
    """p(x_{t-1} | x_t); all tensors are (N, 3, H, W)."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    pred_xstart: Tensor


class Diffusion:
    """A noise schedule, whole or restricted to some of its timesteps; coefficients are float64."""

    def __init__(self, config: DiffusionConfig, timesteps: Sequence[int] | None = None) -> None:
        """`timesteps`: the timesteps to keep, ascending (Nichol & Dhariwal section 4); None keeps all."""
        self.config = config
        betas = betas_of(config)
        self.timesteps = np.arange(config.steps) if timesteps is None else np.asarray(timesteps)
        if len(self.timesteps) < 2:
            raise ValueError(f"a schedule needs at least 2 timesteps, got {self.timesteps.tolist()}")
        if self.timesteps.min() < 0 or self.timesteps.max() >= config.steps or (np.diff(self.timesteps) <= 0).any():
            raise ValueError(f"timesteps must ascend within 0..{config.steps - 1}, got {self.timesteps.tolist()}")
        self.alpha_bar = np.cumprod(1 - betas)[self.timesteps]
        self.alpha_bar_prev = np.append(1.0, self.alpha_bar[:-1])
        self.beta = 1 - self.alpha_bar / self.alpha_bar_prev

    @property
    def posterior_variance(self) -> NDArray[np.float64]:
        """(T,): beta-tilde of Ho et al. equation 7."""
        return self.beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    def q_sample(self, x_0: Tensor, t_N: Tensor, noise: Tensor) -> Tensor:
        """x_t from q(x_t | x_0), Ho et al. equation 4; `noise` broadcasts against `x_0`."""
        signal, spread = np.sqrt(self.alpha_bar), np.sqrt(1 - self.alpha_bar)
        return _take(signal, t_N, x_0) * x_0 + _take(spread, t_N, x_0) * noise

    def network_timesteps(self, t_N: Tensor) -> Tensor:
        """The timesteps that the sampler gives the network for schedule indices `t_N`."""
        original = to_device(torch.from_numpy(self.timesteps), t_N.device)[t_N]
        return original.float() * (1000 / self.config.steps) if self.config.rescale_timesteps else original

    def predict_xstart(self, x_t: Tensor, t_N: Tensor, eps: Tensor) -> Tensor:
        """The x_0 for which `x_t` contains the noise `eps`: Ho et al. equation 4, solved for x_0."""
        return (
            _take(np.sqrt(1 / self.alpha_bar), t_N, x_t) * x_t - _take(np.sqrt(1 / self.alpha_bar - 1), t_N, x_t) * eps
        )

    def predict_eps(self, x_t: Tensor, t_N: Tensor, x_0: Tensor) -> Tensor:
        """The noise that `x_t` contains, given `x_0`; the inverse of `predict_xstart`."""
        recip = _take(np.sqrt(1 / self.alpha_bar), t_N, x_t)
        return (recip * x_t - x_0) / _take(np.sqrt(1 / self.alpha_bar - 1), t_N, x_t)

    def p_mean_variance(
        self, model: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, t_N: Tensor, *, clip_denoised: bool = True
    ) -> ReverseStep:
        """One reverse step's distribution.

        Mean: Ho et al. equation 7 with the predicted x_0 (clipped to [-1, 1]). Variance: learned between beta-tilde
        and beta (Nichol & Dhariwal equation 15) when the model returns 6 channels, else beta.
        """
        output = model(x_t, self.network_timesteps(t_N))
        prediction = output[:, :3]
        x_0 = self._xstart(x_t, t_N, prediction)
        if clip_denoised:
            x_0 = x_0.clamp(-1, 1)
        coefficient_0 = self.beta * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)
        coefficient_t = (1 - self.alpha_bar_prev) * np.sqrt(1 - self.beta) / (1 - self.alpha_bar)
        log_variance = self._log_variance(output, t_N)
        return ReverseStep(
            mean=_take(coefficient_0, t_N, x_t) * x_0 + _take(coefficient_t, t_N, x_t) * x_t,
            variance=log_variance.exp(),
            log_variance=log_variance,
            pred_xstart=x_0,
        )

    def _xstart(self, x_t: Tensor, t_N: Tensor, prediction: Tensor) -> Tensor:
        """x_0 from the network's prediction."""
        if self.config.predict_xstart:
            return prediction
        if self.config.predict_v:
            signal, spread = np.sqrt(self.alpha_bar), np.sqrt(1 - self.alpha_bar)
            return _take(signal, t_N, x_t) * x_t - _take(spread, t_N, x_t) * prediction
        return self.predict_xstart(x_t, t_N, prediction)

    def _log_variance(self, output: Tensor, t_N: Tensor) -> Tensor:
        # beta-tilde is 0 at the first step; the published code uses the second step's there.
        posterior = np.append(self.posterior_variance[1:2], self.posterior_variance[1:])
        if output.shape[1] == 3:
            fixed_large = np.append(posterior[:1], self.beta[1:])
            return _take(np.log(fixed_large), t_N, output).expand(output.shape)
        v = (output[:, 3:] + 1) / 2
        return v * _take(np.log(self.beta), t_N, output) + (1 - v) * _take(np.log(posterior), t_N, output)


def _take(values: NDArray[np.float64], t_N: Tensor, like: Tensor) -> Tensor:
    """values[t] as float32, shaped to broadcast over images like `like`."""
    return to_device(torch.from_numpy(values).float(), like.device)[t_N].view(-1, *[1] * (like.dim() - 1))
