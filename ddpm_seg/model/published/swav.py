"""Reads the ResNet-50 in checkpoints of facebookresearch/swav."""

from __future__ import annotations

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import Loaded, encoder_state
from ddpm_seg.model.published.state_dicts import State, check_shapes, usable
from ddpm_seg.model.shapes import shapes_of

WIDTHS = {"swav": 64, "swav_w2": 128}
"""Width by flag."""
IMAGE_SIZE = 256

_LANDMARKS = ("conv1.weight", "layer1.0.conv1.weight")
_NOT_READ = ("projection_head.", "prototypes.", "fc.")
"""Parts that are not needed: SwAV's projection, and heads for classification."""


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The ResNet of --swav or --swav-w2; see `published.loading`."""
    flag = "swav" if config.swav is not None else "swav_w2"
    network, weights = load_swav(getattr(config, flag), flag, image_size or IMAGE_SIZE)
    return Loaded(network=network, weights=weights)


def load_swav(uri: str, flag: str, image_size: int = IMAGE_SIZE) -> tuple[SwAVConfig, State]:
    """The ResNet in a checkpoint of facebookresearch/swav, `{"state_dict": ...}` or a plain state dict, and its
    configuration.

    `flag` is a key of WIDTHS; `image_size` is the side of the images to label. Raises ValueError if the file is
    damaged, refused, or another network's.
    """
    name, config = storage.redact(uri), SwAVConfig(image_size=image_size, width=WIDTHS[flag])
    state = encoder_state(uri, config.title, _LANDMARKS, _NOT_READ)
    shapes = shapes_of(state)
    check_shapes(shapes, weight_shapes(config), f"{name}: not the ResNet-50 of {config.title}")
    return config, usable(state, name)
