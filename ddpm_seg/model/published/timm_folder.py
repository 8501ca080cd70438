"""Reads folders of timm, as `timm.models.save_for_hf` writes them and Hugging Face's hub has them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.json_values import as_count, as_object, one_line, shown
from ddpm_seg.model.networks.timm_network import TimmBackbone, TimmConfig, create
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.diffusers.library_folder import (
    LARGE_SIDE,
    Whole,
    chosen_side,
    kept_weights,
    open_folder,
    read_whole,
    three_values,
)
from ddpm_seg.model.published.loading import Loaded

MOST_CLASSES = 2**20
"""Classes of the head that the folder's weights have; it is not read."""


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The network of --timm, for images of --image-size; see `published.loading`.

    Raises ValueError for another kind of folder, for a network that does not give its maps, and for weights that are
    not exactly its own; OSError if there is no such folder or file.
    """
    assert config.timm is not None
    folder, found = open_folder(config.timm, "timm")
    try:
        network, build = _described(found, config.image_size)
    except ValueError as error:
        raise ValueError(f"{folder.named('config.json')}: {one_line(error)}") from error
    backbone = TimmBackbone(read_whole(Whole(title=network.title, build=build), folder))
    backbone.set_input_size(network.image_size)
    return Loaded(
        network=network,
        weights=kept_weights(backbone, weight_shapes(network), folder.name),
        provenance={"license": _preprocessing(found).get("license") or folder.licence()},
    )


def _described(found: Mapping[str, Any], image_size: int | None) -> tuple[TimmConfig, partial[nn.Module]]:
    """The network for images of `image_size`, and what builds it with its head, for the side of its training."""
    if "architecture" not in found:
        use = "; use --transformers" if "model_type" in found else ""
        raise ValueError(f"it names no architecture of timm{use}")
    preprocessing, name = _preprocessing(found), str(found["architecture"])
    own_side, arguments = _own_side(preprocessing), _arguments(found)
    if preprocessing.get("fixed_input_size"):
        arguments.setdefault("img_size", own_side)
    stated: dict[str, Any] = {
        "name": name,
        "arguments": arguments,
        "mean": three_values(preprocessing.get("mean"), "pretrained_cfg.mean"),
        "deviation": three_values(preprocessing.get("std"), "pretrained_cfg.std"),
    }
    TimmConfig(**stated, image_size=1, block_channels=(1,), block_sides=(1,))  # checks the arguments before their use
    count = found.get("num_classes", preprocessing.get("num_classes", 0))
    build = partial(create, name, arguments, num_classes=as_count(count, "num_classes", MOST_CLASSES))
    with torch.device("meta"):
        backbone = TimmBackbone(build())
        # DINOv3 was refined at large sides, whatever its folder says; its positions are relative.
        side = chosen_side(image_size, LARGE_SIDE if "dinov3" in name else own_side, backbone.patch)
        backbone.set_input_size(side)
        channels, sides = zip(*((shape[0], shape[1]) for shape in backbone.shapes(side)), strict=True)
    return TimmConfig(**stated, image_size=side, block_channels=channels, block_sides=sides), build


def _preprocessing(found: Mapping[str, Any]) -> dict[str, Any]:
    return as_object(found.get("pretrained_cfg"), "pretrained_cfg")


def _arguments(found: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network, without those that are set here."""
    given = as_object(found.get("model_args", {}), "model_args")
    return {key: value for key, value in given.items() if key not in ("num_classes", "in_chans")}


def _own_side(preprocessing: Mapping[str, Any]) -> int:
    """Side of the images that the weights were trained on."""
    size = preprocessing.get("input_size")
    if not isinstance(size, list) or len(size) != 3 or size[0] != 3 or type(size[1]) is not int:
        raise ValueError(f"pretrained_cfg.input_size is {shown(size)}, expected [3, height, width]")
    return size[1]
