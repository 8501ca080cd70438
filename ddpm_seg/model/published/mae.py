"""Reads the encoders in checkpoints of facebookresearch/mae."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import Loaded, encoder_state
from ddpm_seg.model.published.state_dicts import State, check_shapes, usable
from ddpm_seg.model.shapes import shapes_of

_LANDMARKS = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight")
_NOT_READ = ("decoder_", "mask_token", "norm.", "fc_norm.", "head.")
"""Parts that are not needed: the decoder, and heads for classification."""
_MAE_NAMES = {
    "patch_embed.proj.": "patch_embed.",
    ".norm1.": ".ln_1.",
    ".attn.qkv.": ".self_attention.in_proj_",
    ".attn.proj.": ".self_attention.out_proj.",
    ".norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.0.",
    ".mlp.fc2.": ".mlp.3.",
}
"""timm's names of weights and, for each, torchvision's, which this package uses."""


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The encoder of --mae; see `published.loading`. Takes its image size from the file."""
    assert config.mae is not None
    network, weights = load_mae(config.mae)
    return Loaded(network=network, weights=weights)


def load_mae(uri: str) -> tuple[MAEConfig, State]:
    """The encoder in a checkpoint of facebookresearch/mae, `{"model": ...}` or a plain state dict, and its
    configuration.

    Raises ValueError if the file is damaged, refused, or another network's.
    """
    name = storage.redact(uri)
    state = encoder_state(uri, "MAE", _LANDMARKS, _NOT_READ)
    config = _mae_config(shapes_of(state), name)
    shapes = shapes_of(state)
    expected = {_published_name(key): shape for key, shape in weight_shapes(config).items()}
    check_shapes(shapes, expected, f"{name}: not the encoder of a MAE")
    return config, {_torchvision_name(key): tensor for key, tensor in usable(state, name).items()}


def _mae_config(shapes: Mapping[str, tuple[int, ...]], name: str) -> MAEConfig:
    """The configuration, all of it but the number of heads read from the shapes."""
    patches, positions = shapes["patch_embed.proj.weight"], shapes["pos_embed"]
    if len(patches) != 4 or len(positions) != 3:
        raise ValueError(f"{name}: patch_embed.proj.weight is {patches} and pos_embed {positions}; expected a MAE's")
    width, _, patch, _ = patches
    side = math.isqrt(positions[1] - 1)
    if side < 1 or side * side != positions[1] - 1:
        raise ValueError(
            f"{name}: pos_embed has {positions[1]} positions; expected a square of patches and a class token"
        )
    return MAEConfig(
        image_size=side * patch,
        patch_size=patch,
        width=width,
        depth=1 + max(int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", key) for key in shapes) if match),
        num_heads=16 if width == 1280 else max(1, width // 64),  # heads are 64 wide, except in ViT-H
    )


def _torchvision_name(key: str) -> str:
    """The name in this package, which is torchvision's, of a MAE's tensor."""
    for published, ours in _MAE_NAMES.items():
        key = key.replace(published, ours)
    return key


def _published_name(key: str) -> str:
    """The inverse of `_torchvision_name`, for messages about the file."""
    for published, ours in _MAE_NAMES.items():
        key = key.replace(ours, published)
    return key
