"""Reads the noise schedule that a scheduler_config.json of Hugging Face diffusers describes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.model.diffusion import DiffusionConfig, cosine_betas, linear_betas
from ddpm_seg.model.json_values import from_json, shown
from ddpm_seg.model.limits import MAX_TIMESTEPS, check_range

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settings:
    """Settings that say how the network was trained, or that our samplers treat differently, with diffusers' defaults.

    All other settings of a scheduler are about how it draws images.
    """

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]
    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    variance_type: str | None = None
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False
    use_flow_sigmas: bool | None = False
    timestep_type: Literal["discrete"] = "discrete"

    def __post_init__(self) -> None:
        check_range("num_train_timesteps", self.num_train_timesteps, MAX_TIMESTEPS, least=2)
        for name in ("beta_start", "beta_end"):
            check_range(name, getattr(self, name), 1, least=0)
        if self.use_flow_sigmas:
            raise ValueError("use_flow_sigmas is true; expected a network that was trained as a DDPM, not with flows")


def diffusion_of(scheduler: Mapping[str, Any]) -> DiffusionConfig:
    """The noise process of a scheduler_config.json. Raises ValueError unless it has discrete timesteps.

    Any scheduler with a beta_schedule is accepted: its class says how to sample, not how the network was trained.
    """
    if "beta_schedule" not in scheduler:
        raise ValueError(
            f"its scheduler is a {_class_name(scheduler)} without a beta_schedule; expected a DDPM's, such "
            "as DDPMScheduler or DDIMScheduler"
        )
    known = {field.name for field in fields(_Settings)}
    given = {name: value for name, value in scheduler.items() if name in known}
    if scheduler.get("predict_epsilon") is False:  # diffusers before 0.10
        given.setdefault("prediction_type", "sample")
    settings = from_json(_Settings, given, "scheduler")
    _warn_of_other_samples(settings)
    betas = _betas(settings)
    return DiffusionConfig(
        steps=len(betas),
        predict_xstart=settings.prediction_type == "sample",
        predict_v=settings.prediction_type == "v_prediction",
        **_schedule(betas),
    )


def _betas(settings: _Settings) -> NDArray[np.float64]:
    """The betas, (T,) float64. Raises ValueError if the last is 1."""
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler(
        num_train_timesteps=settings.num_train_timesteps,
        beta_start=settings.beta_start,
        beta_end=settings.beta_end,
        beta_schedule=settings.beta_schedule,
        trained_betas=None if settings.trained_betas is None else list(settings.trained_betas),
    )
    betas = scheduler.betas.double().numpy()
    if settings.rescale_betas_zero_snr or betas.max(initial=0) == 1:
        raise ValueError("its schedule ends at pure noise (rescale_betas_zero_snr), from which x_0 cannot be computed")
    return betas


def _class_name(scheduler: Mapping[str, Any]) -> str:
    name = scheduler.get("_class_name")
    return name if isinstance(name, str) and name.isidentifier() and len(name) < 100 else shown(name)


def _warn_of_other_samples(settings: _Settings) -> None:
    """Warns about settings that change sampled images; features do not depend on them."""
    if not settings.clip_sample or settings.thresholding:
        logger.warning("its scheduler does not clip x_0 to [-1, 1]; the samplers here always do")
    elif settings.clip_sample_range != 1:
        logger.warning(
            "its scheduler clips x_0 to [-%g, %g]; the samplers here always clip to [-1, 1]",
            settings.clip_sample_range,
            settings.clip_sample_range,
        )
    if settings.variance_type == "learned":
        logger.warning("its variance_type is 'learned'; the samplers here read 6 channels as 'learned_range'")


def _schedule(betas: NDArray[np.float64]) -> dict[str, Any]:
    """The schedule's name if it has one, up to float32 rounding, else its betas."""
    for name, named in (("linear", linear_betas), ("cosine", cosine_betas)):
        if np.allclose(betas, named(len(betas)), rtol=1e-5, atol=1e-7):
            return {"noise_schedule": name}
    return {"betas": tuple(betas.tolist())}
