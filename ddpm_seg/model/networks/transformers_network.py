"""Vision networks of Hugging Face's transformers as sources of features; none of their remote code is ever run."""

# Shapes: N images of S x S pixels, C channels, T tokens: a prefix (class and registers), then (S / patch)^2 patches.

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddpm_seg.model.json_values import shown
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.library_network import Backbone, LibraryNetwork, check_arguments
from ddpm_seg.model.networks.pixel_values import DEVIATION, MEAN


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How the networks of one `model_type` are built and read."""

    model: str
    """Its class in transformers."""
    blocks: str = "encoder.layer"
    """The list of its blocks."""
    unused: tuple[str, ...] = ("layernorm",)
    """Modules after the last block."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of its forward."""
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION
    """What images are standardised with if the folder has no preprocessor_config.json."""
    any_side: bool = False
    """Whether it was made to see images of any side, whatever side its folder names."""


FAMILIES: dict[str, Family] = {
    "dinov2": Family(model="Dinov2Model"),
    "dinov2_with_registers": Family(model="Dinov2WithRegistersModel"),
    "dinov3_vit": Family(model="DINOv3ViTModel", blocks="model.layer", unused=("norm",), any_side=True),
    "dinov3_convnext": Family(
        model="DINOv3ConvNextModel", blocks="model.stages", unused=("layer_norm", "pool"), any_side=True
    ),
    # Its first module standardises what lies in 0 to 1.
    "radio": Family(model="RadioModel", unused=(), mean=(0.0,) * 3, deviation=(1.0,) * 3, any_side=True),
    "siglip_vision_model": Family(
        model="SiglipVisionModel",
        blocks="encoder.layers",
        unused=("post_layernorm", "head"),
        inputs={"interpolate_pos_encoding": True},
        mean=(0.5,) * 3,
        deviation=(0.5,) * 3,
    ),
    "siglip2_vision_model": Family(
        model="Siglip2VisionModel",
        blocks="encoder.layers",
        unused=("post_layernorm", "head"),
        mean=(0.5,) * 3,
        deviation=(0.5,) * 3,
    ),
    "tipsv2_vision_model": Family(model="Tipsv2VisionModel", mean=(0.0,) * 3, deviation=(1.0,) * 3),
}
"""By `model_type`. A new one is a line here, if its blocks are called one after another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersConfig(LibraryNetwork):
    """A model type of transformers; `arguments` are those of its config.json that its class of configurations knows."""

    kind: ClassVar[str] = "transformers"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(flag="transformers", title="transformers", loader="transformers_folder", options=("image_size",)),
    )

    model_type: str
    """A key of FAMILIES."""

    def __post_init__(self) -> None:
        if self.model_type not in FAMILIES:
            raise ValueError(f"model_type is {shown(self.model_type)}, expected one of {', '.join(FAMILIES)}")
        LibraryNetwork.__post_init__(self)

    @property
    def title(self) -> str:
        return f"transformers {self.model_type}"

    def backbone(self) -> TransformersBackbone:
        family = FAMILIES[self.model_type]
        network = model_class(family.model)
        config = configuration(network, self.arguments)
        try:
            return TransformersBackbone(network(config), family)
        # Each network's constructor raises its own exceptions for values that do not go together.
        except Exception as error:
            raise ValueError(f"transformers' {family.model} cannot be built: {error}") from error


def model_class(name: str) -> Any:
    """transformers' class with that name. Raises ModuleNotFoundError without transformers, ValueError if the installed
    version has no such class."""
    import transformers

    found = getattr(transformers, name, None)
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        version = transformers.__version__
        raise ValueError(f"transformers {version} has no network {shown(name)}; a newer one may have it")
    return found


def configuration(network: Any, arguments: Mapping[str, Any]) -> Any:
    """The configuration for a class of networks. Raises ValueError for an argument that it does not know."""
    config = network.config_class
    if unknown := sorted(arguments.keys() - known_arguments(config)):
        raise ValueError(f"{shown(unknown[0])} is no argument of transformers' {config.__name__}")
    check_arguments(arguments)
    try:
        return config(**arguments)
    # Each class of configurations has its own exceptions for values that it does not take.
    except Exception as error:
        raise ValueError(f"transformers' {config.__name__}: {error}") from error


def known_arguments(config: Any) -> set[str]:
    """Names that a class of configurations adds to those of every one, and that do not begin with "_"."""
    from dataclasses import fields

    from transformers import PreTrainedConfig

    common = {one.name for one in fields(PreTrainedConfig)}
    return {one.name for one in fields(config) if one.name not in common and not one.name.startswith("_")}


class TransformersBackbone(Backbone):
    """Gives the outputs of transformers' own blocks, before the final norm."""

    def __init__(self, network: Any, family: Family) -> None:
        super().__init__(network)
        self.family = family
        for name in family.unused:
            if hasattr(network, name):
                setattr(network, name, nn.Identity())
        if getattr(network, "use_head", False):
            network.use_head = False
        for name, buffer in list(network.named_buffers(recurse=False)):
            if not buffer.is_floating_point():  # indices, which follow from the arguments
                network.register_buffer(name, buffer, persistent=False)
        self.owner, _, self.list_name = family.blocks.rpartition(".")

    @property
    def depth(self) -> int:
        return len(self.network.get_submodule(self.family.blocks))

    @property
    def patch(self) -> int:
        """Sides of images must be multiples of this."""
        return getattr(self.network.config, "patch_size", 32)  # a ConvNeXt halves images five times

    @property
    def own_side(self) -> int:
        """The side of the images that its position embeddings are for."""
        config = self.network.config
        patches = getattr(config, "num_patches", None)
        return self.patch * round(patches**0.5) if patches else config.image_size

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        owner = self.network.get_submodule(self.owner)
        whole = getattr(owner, self.list_name)
        kept: list[Tensor] = []
        hooks = [
            whole[index].register_forward_hook(lambda block, given, found: kept.append(found))
            for index in sorted(set(blocks))
        ]
        setattr(owner, self.list_name, whole[: max(blocks) + 1])
        try:
            self.network(**self._inputs(x))
        finally:
            setattr(owner, self.list_name, whole)
            for hook in hooks:
                hook.remove()
        return [self._map(found, x.shape[-1]) for found in kept]

    def _map(self, found: Tensor, side: int) -> Tensor:
        """A block's output, (N, T, C) or a map already, as a map."""
        if found.ndim == 4:
            return found
        side //= self.patch
        return found[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))

    def _inputs(self, x: Tensor) -> dict[str, Any]:
        if self.family.model != "Siglip2VisionModel":
            return {"pixel_values": x, **self.family.inputs}
        # It takes patches, row by row, each with its colours innermost.
        patches = x.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)  # (N, 3, h, w, patch, patch)
        rows = patches.permute(0, 2, 3, 4, 5, 1).flatten(1, 2).flatten(2)
        grid = torch.tensor([list(patches.shape[2:4])] * len(x), device="cpu")
        return {"pixel_values": rows, "spatial_shapes": grid, "pixel_attention_mask": None}
