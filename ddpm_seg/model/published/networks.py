"""The networks that ddpm-segmentation compares, from the checkpoints of the codes that trained them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.networks.unet import UNetConfig
from ddpm_seg.model.published.flags import contradictions
from ddpm_seg.model.published.names import ModelType
from ddpm_seg.model.published.state_dicts import (
    State,
    check_shapes,
    read_checkpoint,
    state_dict,
    unwrapped_names,
    usable,
)
from ddpm_seg.model.shapes import shapes_of, some

SWAV_WIDTHS: dict[ModelType, int] = {"swav": 64, "swav_w2": 128}
SWAV_IMAGE_SIZE = 256

_TITLES: dict[ModelType, str] = {"ddpm": "guided-diffusion", "mae": "MAE", "swav": "SwAV", "swav_w2": "SwAVw2"}
# Trained beside the encoder, and not read: MAE's decoder and its heads for classification, SwAV's projection.
_NOT_NEEDED = ("decoder_", "mask_token", "norm.", "fc_norm.", "head.", "projection_head.", "prototypes.", "fc.")
# In timm's names, and in torchvision's.
_MAE_NAMES = {
    "patch_embed.proj.": "patch_embed.",
    ".norm1.": ".ln_1.",
    ".attn.qkv.": ".self_attention.in_proj_",
    ".attn.proj.": ".self_attention.out_proj.",
    ".norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.0.",
    ".mlp.fc2.": ".mlp.3.",
}


def load_unet(uri: str, config: UNetConfig) -> State:
    """A guided-diffusion state dict, checked against the network that `config` describes.

    Weights keep float16 or float32; other floating types become float32. Raises ValueError where a file is damaged or
    refused, or does not fit; where its shapes contradict a flag, it names the flag, the value and what they show.
    """
    name = storage.redact(uri)
    content = read_checkpoint(uri)
    _refuse_another(content, "ddpm", name)
    state = state_dict(content, name)
    shapes = shapes_of(state)
    landmarks = ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight")
    if absent := [key for key in landmarks if key not in shapes]:
        raise ValueError(
            f"{name}: not a guided-diffusion network: it has no {absent[0]}, but {some(shapes)}; "
            "give its plain state dict"
        )
    if shapes["input_blocks.0.0.weight"][1:2] != (3,):
        raise ValueError(
            f"{name}: input_blocks.0.0.weight is {shapes['input_blocks.0.0.weight']}; expected a network that takes "
            "the 3 channels of an image and nothing else (this may be a super-resolution model)"
        )
    if found := contradictions(config, shapes):
        raise ValueError(f"{name}: the model flags are not this checkpoint's: {'; '.join(found)}")
    check_shapes(shapes, weight_shapes(config), f"{name}: not the network that the model flags describe")
    return usable(state, name)


def load_mae(uri: str) -> tuple[MAEConfig, State]:
    """A checkpoint of facebookresearch/mae, `{"model": ...}` or the state dict alone: its encoder, and what it is.

    Raises ValueError where a file is damaged or refused, or another network's.
    """
    name = storage.redact(uri)
    state = _backbone_state(uri, "mae", ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight"))
    config = _mae_config(shapes_of(state), name)
    shapes = shapes_of(state)
    expected = {_published_name(key): shape for key, shape in weight_shapes(config).items()}
    check_shapes(shapes, expected, f"{name}: not the encoder of a MAE")
    return config, {_torchvision_name(key): tensor for key, tensor in usable(state, name).items()}


def load_swav(uri: str, model_type: ModelType, image_size: int = SWAV_IMAGE_SIZE) -> tuple[SwAVConfig, State]:
    """A checkpoint of facebookresearch/swav, `{"state_dict": ...}` or the state dict alone: its ResNet, and what it is.

    `image_size` is that of the images to label. Raises ValueError where a file is damaged or refused, or another
    network's.
    """
    name, config = storage.redact(uri), SwAVConfig(image_size=image_size, width=SWAV_WIDTHS[model_type])
    state = _backbone_state(uri, model_type, ("conv1.weight", "layer1.0.conv1.weight"))
    shapes = shapes_of(state)
    check_shapes(shapes, weight_shapes(config), f"{name}: not the ResNet-50 of {config.title}")
    return config, usable(state, name)


def _backbone_state(uri: str, model_type: ModelType, landmarks: tuple[str, ...]) -> State:
    """What is read of a checkpoint of that type."""
    name, content = storage.redact(uri), read_checkpoint(uri)
    _refuse_another(content, model_type, name)
    state = state_dict(_unwrapped(content), name)
    if absent := [key for key in landmarks if key not in state]:
        raise ValueError(f"{name}: not a {_TITLES[model_type]} checkpoint: it has no {absent[0]}, but {some(state)}")
    return {key: tensor for key, tensor in state.items() if not key.startswith(_NOT_NEEDED)}


def _unwrapped(content: Any) -> Any:
    """The state dict of a checkpoint, which may hold the state of its training too."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    return content


def _refuse_another(content: Any, model_type: ModelType, name: str) -> None:
    """Raises ValueError, with the flag to use, for a checkpoint that is of another type than `model_type`."""
    state = _unwrapped(content)
    if not isinstance(state, Mapping):
        return
    names = unwrapped_names(key for key in state if isinstance(key, str))
    tensors = {names[key]: value for key, value in state.items() if key in names and isinstance(value, Tensor)}
    found = _model_type(shapes_of(tensors))
    if found is not None and found != model_type:
        raise ValueError(f"{name} is a {_TITLES[found]} checkpoint; use --{found.replace('_', '-')}")


def _model_type(shapes: Mapping[str, tuple[int, ...]]) -> ModelType | None:
    """As the names in a state dict tell it, and of SwAV's ResNets their width."""
    if "time_embed.0.weight" in shapes and "input_blocks.0.0.weight" in shapes:
        return "ddpm"
    if "patch_embed.proj.weight" in shapes and "blocks.0.attn.qkv.weight" in shapes:
        return "mae"
    if "layer1.0.conv1.weight" in shapes:
        width = shapes.get("conv1.weight", ())[:1]
        return next((model_type for model_type, known in SWAV_WIDTHS.items() if width == (known,)), None)
    return None


def _mae_config(shapes: Mapping[str, tuple[int, ...]], name: str) -> MAEConfig:
    """Everything but the heads stands in the shapes."""
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
        num_heads=16 if width == 1280 else max(1, width // 64),  # 64 wide, but in ViT-H
    )


def _torchvision_name(key: str) -> str:
    """Of a MAE's tensor, here, where the blocks are torchvision's."""
    for published, ours in _MAE_NAMES.items():
        key = key.replace(published, ours)
    return key


def _published_name(key: str) -> str:
    """The inverse of `_torchvision_name`, for messages about the file."""
    for published, ours in _MAE_NAMES.items():
        key = key.replace(ours, published)
    return key
