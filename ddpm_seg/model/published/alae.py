"""Reads the encoder in checkpoints of podgorskiy/ALAE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.alae import ALAEConfig, pooled_kernel
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.state_dicts import State, check_shapes, describe, read_checkpoint, state_dict, usable
from ddpm_seg.model.shapes import Shapes, shapes_of, some

IMAGE_SIZE = 256
"""Side of the images, unless another is given or the encoder's own is smaller."""
_ENCODER = "discriminator_s"
"""The running average of the encoder's weights; `discriminator` has those of the last step."""
_LANDMARKS = ("from_rgb.0.from_rgb.weight", "encode_block.0.conv_1.weight")
# Input layers for lower resolutions, used while the network grew; the blur, whose weights are constants; and layers
# that compute the image's code.
NOT_READ = re.compile(r"from_rgb\.[1-9]\d*\.|encode_block\.\d+\.(blur\.|style_[12]\.)")
_BLOCK = re.compile(r"encode_block\.(\d{1,4})\.")


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The encoder of --alae; see `published.loading`."""
    assert config.alae is not None
    network, weights = load_alae(config.alae, config.image_size)
    return Loaded(network=network, weights=weights)


def load_alae(uri: str, image_size: int | None = None) -> tuple[ALAEConfig, State]:
    """The encoder in a checkpoint `{"models": {"discriminator_s": …}}` or a plain state dict, and its configuration.

    `image_size` is the side of the images to label. Raises ValueError if the file is damaged, refused, or another
    network's, and for a side that the encoder cannot take.
    """
    name = storage.redact(uri)
    whole = state_dict(_encoder(read_checkpoint(uri), name), name)
    if absent := [key for key in _LANDMARKS if key not in whole]:
        raise ValueError(f"{name}: not an ALAE checkpoint: it has no {absent[0]}, but {some(whole)}")
    if dense := [key for key in whole if ".dense." in key]:
        raise ValueError(
            f"{name}: {dense[0]}: the last block of this encoder is a dense layer, which has no map; expected an "
            "encoder whose blocks all have conv_2, as the published ones"
        )
    state = {key: tensor for key, tensor in whole.items() if not NOT_READ.match(key)}
    config = _config(shapes_of(state), image_size, name)
    check_shapes(shapes_of(state), _published_shapes(config), f"{name}: not the encoder of an ALAE")
    return config, _ours(usable(state, name))


def _encoder(content: Any, name: str) -> Any:
    """The encoder's state dict, which is among those of all networks."""
    if not isinstance(content, Mapping) or not isinstance(models := content.get("models"), Mapping):
        return content
    if _ENCODER not in models:
        raise ValueError(f"{name}: expected the encoder {_ENCODER} among its models, got {describe(models)}")
    return models[_ENCODER]


def _config(shapes: Shapes, image_size: int | None, name: str) -> ALAEConfig:
    """The configuration, all of it read from the shapes."""
    depth = len({match[1] for match in map(_BLOCK.match, shapes) if match})
    keys = ["from_rgb.0.from_rgb.weight", *(f"encode_block.{index}.conv_2.weight" for index in range(depth))]
    for key in keys:
        if len(shapes.get(key, ())) != 4:
            raise ValueError(f"{name}: not the encoder of an ALAE: {key} is {shapes.get(key, 'missing')}")
    widths = tuple(shapes[key][0] for key in keys)
    try:
        return ALAEConfig(image_size=image_size or min(IMAGE_SIZE, 2 ** len(widths)), widths=widths)
    except ValueError as error:
        raise ValueError(f"{name}: not an ALAE encoder for such images: {error}") from None


def _published_shapes(config: ALAEConfig) -> Shapes:
    """Shapes in the file for the network that `config` describes."""
    shapes = {}
    for key, shape in weight_shapes(config).items():
        block_bias = key.startswith("encode_block.") and key.endswith(".bias")
        kernel = (*shape[:2], 3, 3) if key.endswith("conv_2.weight") else shape
        shapes[_published_name(key)] = (1, *shape, 1, 1) if block_bias else kernel
    return shapes


def _published_name(key: str) -> str:
    """The name in the file of one of our tensors."""
    return re.sub(r"\bconv_([12])\.bias$", r"bias_\1", key).replace("from_rgb.", "from_rgb.0.from_rgb.")


def _ours(state: State) -> State:
    """The file's tensors converted for the network here."""
    ours = {}
    for key, tensor in state.items():
        name = re.sub(r"\bbias_([12])$", r"conv_\1.bias", key).replace("from_rgb.0.from_rgb.", "from_rgb.")
        if name.endswith("conv_2.weight"):
            tensor = pooled_kernel(tensor)
        ours[name] = tensor.flatten() if name.endswith(".bias") else tensor
    return ours
