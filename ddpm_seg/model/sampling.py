"""How images are drawn: the sampler and the timesteps at which it asks the network. Without torch, for --help."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ddpm_seg.model.diffusion import DiffusionConfig

Sampler = Literal["ddpm", "ddim", "dpm-solver++"]

FIRST_TIMESTEP = 0.8  # of the schedule; see `quadratic_timesteps`


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How images are drawn: the flags of jobs.generate, of which each kind of network has its own."""

    sampler: Sampler = "ddim"
    steps: int = 20
    """Evaluations of the UNet for a sample."""
    eta: float = 1.0
    """Noise that DDIM adds on the way, as a share of ancestral sampling's."""

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"sampling needs at least 2 steps, got {self.steps}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, got {self.eta:g}")

    def refuse_all_but(self, own: Collection[str], title: str) -> None:
        """Raises ValueError for a flag that is given, but is not among the `own` ones of a network, a `title`."""
        for field in fields(self):
            if field.name not in own and getattr(self, field.name) != field.default:
                raise ValueError(f"--{field.name} is not for a {title}: leave it out")

    def timesteps(self, diffusion: DiffusionConfig) -> list[int]:
        """Those of the schedule that the network is asked at, ascending. Raises ValueError for more than there are.

        Ancestral sampling takes even steps over all of it, as published; the others, which are made for few steps, are
        dense where detail is decided.
        """
        if self.sampler == "ddpm":
            return even_timesteps(diffusion.steps, self.steps)
        return quadratic_timesteps(round(FIRST_TIMESTEP * diffusion.steps), self.steps)


def even_timesteps(steps: int, count: int) -> list[int]:
    """`count` of `steps` timesteps, evenly from the first to the last: guided-diffusion's respacing by one number.

    Raises ValueError where there are not so many.
    """
    if not 2 <= count <= steps:
        raise ValueError(f"{count} timesteps do not fit into 0..{steps - 1}: expected 2 to {steps}")
    return [round(index * (steps - 1) / (count - 1)) for index in range(count)]


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
