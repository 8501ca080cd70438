"""Samplers: free functions from noise to images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddpm_seg.model.diffusion import Diffusion


def ddim_timesteps(steps: int, count: int) -> list[int]:
    """`count` timesteps at the one integer stride that gives exactly so many: guided-diffusion's "ddimN"."""
    if count < 2:
        raise ValueError(f"a respaced schedule needs at least 2 timesteps, got {count}")
    for stride in range(1, steps + 1):
        if math.ceil(steps / stride) == count:
            return list(range(0, steps, stride))
    raise ValueError(
        f"no integer stride over {steps} timesteps gives {count}; try {math.ceil(steps / (steps // count + 1))}"
    )


def quadratic_timesteps(last: int, count: int) -> list[int]:
    """`count` timesteps from 0 to `last`, dense near 0 where detail is decided (Song et al., 2021, appendix D.2).

    To begin below the schedule's end, with noise all the same, spares the steps at which next to nothing of the image
    is left: there a small network's error is divided by the square root of alpha-bar and tints the whole image.
    Raises ValueError where so many do not fit.
    """
    if not 2 <= count <= last + 1:
        raise ValueError(f"{count} timesteps do not fit into 0..{last}: expected 2 to {last + 1}")
    root = math.sqrt(last) / (count - 1)
    timesteps = [0]
    for index in range(1, count):
        timesteps.append(max(round((index * root) ** 2), timesteps[-1] + 1))
    return timesteps


@torch.no_grad()
def sample_ddim(
    model: Callable[[Tensor, Tensor], Tensor],
    diffusion: Diffusion,
    x_T: Tensor,
    *,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] = (),
) -> Tensor:
    """DDIM (Song et al., 2021, equations 12 and 16) over the timesteps of `diffusion`.

    `x_T` (N, 3, H, W) standard normal; returns images of the same shape, in [-1, 1]. With `eta` 0 deterministic; with 1
    as noisy as ancestral sampling, which mends what a small network gets wrong on the way. Then `generators` has one a
    sample, of its device, so that a sample does not depend on its batch.
    """
    if eta and len(generators) != len(x_T):
        raise ValueError(f"eta {eta} needs a generator for each of {len(x_T)} samples, got {len(generators)}")
    x_t = x_T
    for index in reversed(range(len(diffusion.timesteps))):
        t_N = torch.full((len(x_T),), index, dtype=torch.int64, device=x_T.device)
        x_0 = diffusion.p_mean_variance(model, x_t, t_N).pred_xstart
        eps = diffusion.predict_eps(x_t, t_N, x_0)
        now, previous = diffusion.alpha_bar[index], diffusion.alpha_bar_prev[index]
        sigma = eta * math.sqrt((1 - previous) / (1 - now) * (1 - now / previous))
        x_t = math.sqrt(previous) * x_0 + math.sqrt(max(0.0, 1 - previous - sigma**2)) * eps
        if sigma:
            own = [torch.randn(x_T.shape[1:], generator=generator, device=x_T.device) for generator in generators]
            x_t = x_t + sigma * torch.stack(own)
    return x_t
