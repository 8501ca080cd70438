"""A small random pipeline, written by diffusers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.diffusers_config import DiffusersUNetConfig

ARCHITECTURE: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
}
TINY_DIFFUSERS = DDPMConfig(unet=DiffusersUNetConfig(architecture=ARCHITECTURE), diffusion=DiffusionConfig())


def pipeline(folder: Path, **scheduler: Any) -> str:
    """Writes the pipeline into `folder`, with a DDPMScheduler of these settings; the folder."""
    torch.manual_seed(0)
    DDPMPipeline(UNet2DModel(**ARCHITECTURE), DDPMScheduler(**scheduler)).save_pretrained(folder)
    return str(folder)
