"""Small random networks in folders, written by the libraries that people have them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
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
