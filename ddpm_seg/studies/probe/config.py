"""The settings of jobs.probe."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg.checks import check_least
from ddpm_seg.option_order import own_options_first
from ddpm_seg.studies.split_options import SplitOptions


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig(SplitOptions):
    """Settings of `jobs.probe`."""

    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to look at, for a DDPM. Default: 5, 20, 50, 100, 150, 250 and 400 of 1000, scaled to the
    network's schedule."""
    blocks: tuple[int, ...] | None = None
    """Blocks to look at. Default: all, or the published ones of a network with more than 32."""
    members: int = 2
    """Classifiers for each step and block."""
    iterations: int = 300
    """Batches of 256 pixels that each classifier is trained on."""
    seed: int = 0
    """Random seed for the classifiers."""
    num_actors: int | None = None
    """Number of Ray actors that compute activations. Default: one per free GPU of the cluster; else 0, which computes
    them in this process."""

    def __post_init__(self) -> None:
        super(ProbeConfig, self).__post_init__()  # a class with slots is made anew, which breaks super()
        check_least(self, members=1, iterations=1, num_actors=0)
