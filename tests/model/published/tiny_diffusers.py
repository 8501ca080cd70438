"""A small random pipeline, written by diffusers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

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


def stable_diffusion(folder: Path, **unet: Any) -> str:
    """Writes a small random Stable Diffusion into `folder`, with these arguments of its UNet; the folder."""
    torch.manual_seed(0)
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionPipeline(
        **_shared(),
        text_encoder=CLIPTextModel(_text()),
        tokenizer=_tokenizer(),
        unet=UNet2DConditionModel(**{**UNET, **unet}),
        **none,
    ).save_pretrained(folder)
    return str(folder)


def stable_diffusion_xl(folder: Path) -> str:
    """Writes a small random Stable Diffusion XL, with its two text encoders, into `folder`; the folder."""
    torch.manual_seed(0)
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 24,
        "cross_attention_dim": 2 * 32,
        "transformer_layers_per_block": (1, 2, 1),
        "use_linear_projection": True,
    }
    StableDiffusionXLPipeline(
        **_shared(),
        text_encoder=CLIPTextModel(_text()),
        tokenizer=_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_text(projection_dim=24)),
        tokenizer_2=_tokenizer(),
        unet=UNet2DConditionModel(**{**UNET, **added}),
    ).save_pretrained(folder)
    return str(folder)


UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 4,
    "cross_attention_dim": 32,
}
LETTERS = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
WORDS = {word: index for index, word in enumerate(["<|startoftext|>", "<|endoftext|>", *LETTERS])}


def _shared() -> dict[str, Any]:
    return {
        "vae": AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            scaling_factor=0.18215,
        ),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    }


def _text(**more: int) -> CLIPTextConfig:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextConfig(**size, vocab_size=len(WORDS), max_position_embeddings=16, **more)


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=WORDS, merges=[], model_max_length=16)
