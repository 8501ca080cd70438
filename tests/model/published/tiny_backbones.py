"""Small random networks in folders, written by the libraries that people have them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from timm.models import save_for_hf

SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 8, "num_heads": 2}
TIMM: dict[str, tuple[dict[str, Any], int]] = {
    "vit_small_patch16_dinov3": (SMALL, 16),
    "vit_small_patch14_reg4_dinov2": ({**SMALL, "img_size": 56}, 14),
    "vit_base_patch16_siglip_224": ({**SMALL, "img_size": 32}, 16),
    "vit_pe_spatial_tiny_patch16_512": ({**SMALL, "img_size": 64}, 16),
    "convnext_tiny": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, 32),
    "swin_tiny_patch4_window7_224": (
        {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 2, 4), "img_size": 64, "window_size": 2},
        32,
    ),
}
"""By timm's name: arguments that make it small, and what sides must be multiples of."""


def timm_folder(folder: Path, name: str = "vit_small_patch16_dinov3", **others: Any) -> str:
    """Writes one of `TIMM` into `folder`, with `others` arguments; the folder."""
    torch.manual_seed(0)
    network = timm.create_model(name, **{**TIMM[name][0], **others})
    save_for_hf(network, folder, safe_serialization=True)
    return str(folder)


TOKENS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 8,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "patch_size": 16,
}
DINO2: dict[str, Any] = {**TOKENS, "image_size": 56, "patch_size": 14, "intermediate_size": None}
TEXT: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50000}
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("Dinov2Model", DINO2),
    "dinov2_classifier": ("Dinov2ForImageClassification", DINO2),
    "dinov2_backbone": ("Dinov2Backbone", DINO2),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", DINO2),
    "dinov3_vit": ("DINOv3ViTModel", {**TOKENS, "num_register_tokens": 4}),
    "dinov3_convnext": ("DINOv3ConvNextModel", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
    "radio": ("RadioModel", {**TOKENS, "max_img_size": 64, "intermediate_size": None}),
    "siglip_vision": ("SiglipVisionModel", {**TOKENS, "image_size": 32}),
    "siglip": ("SiglipModel", {"vision_config": {**TOKENS, "image_size": 32}, "text_config": TEXT}),
    "siglip2": ("Siglip2Model", {"vision_config": {**TOKENS, "num_patches": 16}, "text_config": TEXT}),
    "tipsv2": ("Tipsv2VisionModel", DINO2),
}
"""A class of transformers and arguments that make it small."""


def transformers_folder(folder: Path, name: str = "dinov2_with_registers", **others: Any) -> str:
    """Writes one of `TRANSFORMERS` into `folder`, with `others` arguments; the folder."""
    torch.manual_seed(0)
    kind = getattr(transformers, TRANSFORMERS[name][0])
    arguments = {key: value for key, value in {**TRANSFORMERS[name][1], **others}.items() if value is not None}
    kind(kind.config_class(**arguments)).save_pretrained(folder)
    return str(folder)
