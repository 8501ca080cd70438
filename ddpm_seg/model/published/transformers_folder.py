"""Reads folders of Hugging Face's transformers, as `save_pretrained` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.json_values import as_object, one_line, shown
from ddpm_seg.model.networks.transformers_network import (
    FAMILIES,
    Family,
    TransformersBackbone,
    TransformersConfig,
    configuration,
    known_arguments,
    model_class,
)
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.diffusers.files import Folder
from ddpm_seg.model.published.diffusers.library_folder import (
    LARGE_SIDE,
    chosen_side,
    kept_weights,
    open_folder,
    quiet_transformers,
    three_values,
)
from ddpm_seg.model.published.diffusers.weights import MODEL, read_weights
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.state_dicts import usable
from ddpm_seg.model.shapes import some


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The network of --transformers, for images of --image-size; see `published.loading`.

    Raises ValueError for another kind of folder or network, and for weights that are not exactly its own; OSError if
    there is no such folder or file.
    """
    assert config.transformers is not None
    folder, found = open_folder(config.transformers, "transformers")
    with quiet_transformers():
        try:
            network = _described(found, folder, config.image_size)
        except ValueError as error:
            raise ValueError(f"{folder.named('config.json')}: {one_line(error)}") from error
        backbone = TransformersBackbone(_read(network, folder), FAMILIES[network.model_type])
    return Loaded(
        network=network,
        weights=kept_weights(backbone, weight_shapes(network), folder.name),
        provenance={"license": folder.licence()},
    )


def _described(found: Mapping[str, Any], folder: Folder, image_size: int | None) -> TransformersConfig:
    if "model_type" not in found:
        use = "; use --timm" if "architecture" in found else ""
        raise ValueError(f"it has no model_type{use}")
    vision = found
    if "vision_config" in found:  # of a network for images and text
        kind = f"{found['model_type']}_vision_model"
        vision = {"model_type": kind, **as_object(found["vision_config"], "vision_config")}
    model_type = str(vision["model_type"])
    if model_type not in FAMILIES:
        raise ValueError(f"model_type is {shown(vision['model_type'])}, expected one of {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    mean, deviation = _preprocessing(folder, family)
    arguments = _arguments(vision, model_class(family.model))
    stated: dict[str, Any] = {"model_type": model_type, "arguments": arguments, "mean": mean, "deviation": deviation}
    described = TransformersConfig(**stated, image_size=1, block_channels=(1,), block_sides=(1,))
    with torch.device("meta"):
        backbone = described.backbone()
        side = chosen_side(image_size, LARGE_SIDE if family.any_side else backbone.own_side, backbone.patch)
        channels, sides = zip(*((shape[0], shape[1]) for shape in backbone.shapes(side)), strict=True)
    return TransformersConfig(**stated, image_size=side, block_channels=channels, block_sides=sides)


_ABOUT = {"model_type", "torch_dtype", "auto_map", "out_features", "out_indices", "stage_names"}
"""What a config.json may have that does not describe the network."""
_OTHER_PARTS = ("text_model.", "text_encoder.", "logit_scale", "logit_bias", "temperature", "classifier.")
"""Weights that give no features of images: of networks for images and text, and heads for classification."""


def _arguments(found: Mapping[str, Any], network: Any) -> dict[str, Any]:
    """The arguments of a class of networks in a config.json. What only says how to run or to train it is left out."""
    from dataclasses import fields

    from transformers import PreTrainedConfig

    about = _ABOUT | {one.name for one in fields(PreTrainedConfig)} | {"output_attentions", "attn_implementation"}
    given = {key: value for key, value in found.items() if key not in about and not key.startswith("_")}
    if unknown := sorted(given.keys() - known_arguments(network.config_class)):
        raise ValueError(f"{shown(unknown[0])} is no argument of transformers' {network.config_class.__name__}")
    return given


def _read(network: TransformersConfig, folder: Folder) -> nn.Module:
    """The network with the folder's weights, float32 on the CPU, through transformers' own renaming of keys.

    Raises ValueError if weights are missing, unknown, of another shape or not finite.
    """
    whole = model_class(FAMILIES[network.model_type].model)
    state = read_weights(folder, "", MODEL)
    read = {key: tensor for key, tensor in state.items() if not key.startswith(_OTHER_PARTS)}
    floats = usable({key: tensor for key, tensor in read.items() if tensor.is_floating_point()}, folder.name)
    complaint = f"{folder.name}: not the weights of the network that its config.json describes"
    try:
        model, report = whole.from_pretrained(
            None,
            config=configuration(whole, network.arguments),
            state_dict={**read, **floats},
            output_loading_info=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    # transformers has its own exceptions for what it cannot rename.
    except Exception as error:
        raise ValueError(f"{complaint}: {one_line(error)}") from error
    wrong = [f"{key} is {tuple(had)}, expected {tuple(needed)}" for key, had, needed in report["mismatched_keys"]]
    for found, what in ((wrong, ""), (report["missing_keys"], "it lacks "), (report["unexpected_keys"], "it has ")):
        if found:
            raise ValueError(f"{complaint}: {what}{some(found)}")
    return model


def _preprocessing(folder: Folder, family: Family) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of values from 0 to 1, as the folder says or else as is usual for the family.

    Raises ValueError if values are scaled to another range first.
    """
    found = folder.read_json("preprocessor_config.json")
    if found is None or (found.get("do_normalize", True) and "image_mean" not in found):
        return family.mean, family.deviation
    scale = found.get("rescale_factor", 1 / 255)
    if found.get("do_rescale") is False or type(scale) is not float or abs(scale * 255 - 1) > 1e-3:
        name = folder.named("preprocessor_config.json")
        raise ValueError(f"{name}: rescale_factor is {shown(scale)}, expected 1/255, for values from 0 to 1")
    if not found.get("do_normalize", True):
        return (0.0,) * 3, (1.0,) * 3
    return three_values(found["image_mean"], "image_mean"), three_values(found.get("image_std"), "image_std")
