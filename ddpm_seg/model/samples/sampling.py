"""Sampler settings: the sampler, and the timesteps at which it calls the network. Imports no torch, for a fast
--help."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ddpm_seg.model.diffusion import DiffusionConfig

Sampler = Literal["ddpm", "ddim", "dpm-solver++"]

FIRST_TIMESTEP = 0.8  # as a share of the schedule; see `quadratic_timesteps`


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How images are sampled: flags of jobs.generate. Each kind of network has some of them."""

    sampler: Sampler = "ddim"
    steps: int = 20
    """Evaluations of the UNet per sample."""
    eta: float = 1.0
    """Noise that DDIM adds at each step, as a share of ancestral sampling's."""
    truncation: float | None = None
    """What a StyleGAN2 leaves of a code's distance from the mean code."""

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"sampling needs at least 2 steps, got {self.steps}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, got {self.eta:g}")
        if self.truncation is not None and not 0 <= self.truncation <= 1:
            raise ValueError(f"truncation must lie between 0 and 1, got {self.truncation:g}")

    def refuse_all_but(self, own: Collection[str], title: str) -> None:
        """Raises ValueError if a flag is set that is not among a network's `own`; `title` names the network in the
        message."""
        for field in fields(self):
            if field.name not in own and getattr(self, field.name) != field.default:
                raise ValueError(f"--{field.name} is not for a {title}: leave it out")

    def timesteps(self, diffusion: DiffusionConfig) -> list[int]:
        """The timesteps at which the network is called, ascending. Raises ValueError if the schedule has too few.

        Ancestral sampling spaces its steps evenly over the whole schedule, as published. The others, made for few
        steps, place most of them near 0, where detail is decided.
        """
        if self.sampler == "ddpm":
            return even_timesteps(diffusion.steps, self.steps)
        return quadratic_timesteps(round(FIRST_TIMESTEP * diffusion.steps), self.steps)


def even_timesteps(steps: int, count: int) -> list[int]:
    """`count` of `steps` timesteps, evenly spaced from first to last, like guided-diffusion's respacing to one number.

    Raises ValueError if they do not fit.
    """
    if not 2 <= count <= steps:
        raise ValueError(f"{count} timesteps do not fit into 0..{steps - 1}: expected 2 to {steps}")
    return [round(index * (steps - 1) / (count - 1)) for index in range(count)]


def quadratic_timesteps(last: int, count: int) -> list[int]:
    """`count` timesteps from 0 to `last`, denser near 0, where detail is decided (Song et al., 2021, appendix D.2).

    Starting below the schedule's end, though still from pure noise, skips the steps at which almost nothing of the
    image is left: there a small network's error is divided by the square root of alpha-bar and tints the whole image.
    Raises ValueError if the timesteps do not fit.
    """
    if not 2 <= count <= last + 1:
        raise ValueError(f"{count} timesteps do not fit into 0..{last}: expected 2 to {last + 1}")
    root = math.sqrt(last) / (count - 1)
    timesteps = [0]
    for index in range(1, count):
        timesteps.append(max(round((index * root) ** 2), timesteps[-1] + 1))
    return timesteps
