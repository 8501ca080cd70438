"""A pipeline of Hugging Face diffusers, as `DDPMPipeline.save_pretrained` writes it: UNet and noise schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ddpm_seg.model.ddpm import DDPMConfig
from ddpm_seg.model.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.diffusion import DiffusionConfig, cosine_betas, linear_betas

logger = logging.getLogger(__name__)


def load_diffusers(name: str) -> tuple[DDPMConfig, Mapping[str, Tensor]]:
    """The network of the folder `name`, or of the hub's repository of that name where there is a network.

    Raises OSError where there is none, ValueError for another kind of network or schedule and where diffusers is not
    installed.
    """
    try:
        from diffusers import DDPMScheduler, UNet2DModel
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: --diffusers needs pip install 'ddpm_seg[diffusers]'") from error

    found, subfolder = _config(UNet2DModel, name, "unet")
    if found.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"{name}: its network is a {found['_class_name']}; expected an unconditional UNet2DModel")
    architecture = {key: value for key, value in found.items() if not key.startswith("_")}
    try:
        unet = DiffusersUNetConfig(architecture=architecture)
        diffusion = diffusion_of(_config(DDPMScheduler, name, "scheduler")[0])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    # Without `accelerate` it would do so anyway, and print five lines about it.
    weights = UNet2DModel.from_pretrained(name, subfolder=subfolder, low_cpu_mem_usage=False).state_dict()
    return DDPMConfig(unet=unet, diffusion=diffusion), {f"network.{key}": value for key, value in weights.items()}


def _config(kind: Any, name: str, subfolder: str) -> tuple[Mapping[str, Any], str | None]:
    """The part's settings, and its subfolder; early pipelines, such as google/ddpm-church-256, have none."""
    try:
        return kind.load_config(name, subfolder=subfolder), subfolder
    except OSError:
        return kind.load_config(name), None


def diffusion_of(scheduler: Mapping[str, Any]) -> DiffusionConfig:
    """The noise process of a scheduler_config.json. Raises ValueError for one that is not of discrete timesteps."""
    from diffusers import DDPMScheduler

    if "beta_schedule" not in scheduler:
        raise ValueError(
            f"its scheduler is a {scheduler.get('_class_name')} without a beta_schedule; expected one of a DDPM, such "
            "as DDPMScheduler or DDIMScheduler"
        )
    kinds = ("epsilon", "sample", "v_prediction")
    if (prediction := scheduler.get("prediction_type", "epsilon")) not in kinds:
        raise ValueError(f"prediction_type is {prediction!r}; expected one of {', '.join(kinds)}")
    if not scheduler.get("clip_sample", True) or scheduler.get("thresholding", False):
        logger.warning("its scheduler does not clip x_0 to [-1, 1]; the samplers here always do")
    betas = DDPMScheduler.from_config(dict(scheduler)).betas.double().numpy()
    if not betas.max() < 1:
        raise ValueError("its schedule ends at pure noise (rescale_betas_zero_snr), from which x_0 cannot be computed")
    return DiffusionConfig(
        steps=len(betas),
        predict_xstart=prediction == "sample",
        predict_v=prediction == "v_prediction",
        **_schedule(betas),
    )


def _schedule(betas: np.ndarray) -> dict[str, Any]:
    """By name where it has one, up to diffusers' float32."""
    for name, named in (("linear", linear_betas), ("cosine", cosine_betas)):
        if np.allclose(betas, named(len(betas)), rtol=1e-5, atol=1e-7):
            return {"noise_schedule": name}
    return {"betas": tuple(betas.tolist())}
